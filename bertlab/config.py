"""From YAML files and dotted overrides to one frozen dataclass, strictly: what is not known or not of its type is refused with its place.

A verb's Config is the only schema (bertlab/schema.py). Later files win key by key, overrides win over files, what nobody gives keeps the
dataclass's default. Values are converted by the declared type and not by YAML's guess: `1e-4` is a number where a number is wanted, and
`no` is refused where text is wanted. Imports nothing but the standard library and, once a file is read, yaml.
Relative paths inside a file mean what they mean on the command line: they start at the working directory.
"""

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bertlab.disk import write_text
from bertlab.errors import ConfigError
from bertlab.schema import Given, Leaf, Written, default_of, key_of, leaves, no_options, suggestion, value_of

LARGEST_FILE = 1_000_000  # bytes; a configuration has a few hundred, so more is another kind of file

_C = TypeVar("_C")
_KINDS = {"scalar": "a single value", "sequence": "a list", "mapping": "a mapping"}


# --- files
def _read(file: str, names: Iterable[str]) -> dict[str, Given]:
    """The keys of one YAML file. Raises ConfigError for a file that cannot be read, is no plain mapping, or has a key twice."""
    root = _tree(file)
    given: dict[str, Given] = {}
    if root is not None:
        _walk(file, root, "", _sections(names), given)
    return given


def read_plain(file: str) -> dict[str, Any]:
    """The mapping of a YAML file that no schema is known of, by YAML's own types and as strictly: no tag, no alias, no key twice."""
    import yaml

    root = _tree(file)
    mappings = [root] if root is not None else []
    for mapping in mappings:
        keys = [key.value for key, _ in mapping.value]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise ConfigError(f"{file}:{mapping.start_mark.line + 1}: a duplicate key, or one that is no word")
        mappings.extend(node for _, node in mapping.value if node.id == "mapping")
    try:
        return yaml.constructor.SafeConstructor().construct_document(root) if root is not None else {}
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file}: not plain YAML ({' '.join(str(error).split())[:200]})") from None


def _tree(file: str) -> Any:
    """The mapping at the root of a YAML file, not yet made into values; None for an empty file."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Builds the tree only, and refuses anchors, aliases and tags: a configuration is plain data that reads as it stands."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None or event.tag is not None:
                what = "an anchor (&) or alias (*)" if getattr(event, "tag", None) is None else "a tag (!)"
                problem = f"{what} is not allowed: write the value out, or quote it"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
            return super().compose_node(parent, index)

    text = _text(file)
    try:
        root: Any = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{file}:{mark.line + 1 if mark else 1}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}:{line}: not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply to be a configuration") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag.endswith(":null")):
        return None  # empty, or nothing but comments
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{file}:{root.start_mark.line + 1}: a configuration is lines of `key: value`, not {_KINDS[root.id]}")
    return root


def _text(file: str) -> str:
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist: --config wants a YAML file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder: --config wants a YAML file") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{file} is larger than 1 MB: that is no configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: not UTF-8 text") from None


def _walk(file: str, mapping: Any, prefix: str, sections: set[str], given: dict[str, Given]) -> None:
    """Add the keys of a YAML mapping to `given` under their dotted names; a section's own mapping is walked in turn."""
    for key, node in mapping.value:
        place = f"{file}:{key.start_mark.line + 1}"
        if key.id != "scalar":
            raise ConfigError(f"{place}: a key is one word, not {_KINDS[key.id]}")
        name = prefix + key.value
        if name in given:
            raise ConfigError(f"{place}: duplicate key {name!r}, first given at {given[name].place}: remove one of them")
        if name in sections and node.id == "mapping":
            given[name] = Given({}, place)  # so that a section opened twice is a duplicate too
            _walk(file, node, f"{name}.", sections, given)
        else:
            given[name] = Given(_plain(node), place)


def _plain(node: Any) -> Any:
    if node.id == "scalar":
        return Written(node.value, node.tag.rpartition(":")[2], node.style is None)
    return [_plain(one) for one in node.value] if node.id == "sequence" else dict.fromkeys(range(len(node.value)))


def _sections(names: Iterable[str]) -> set[str]:
    return {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}


# --- the whole
def load(Config: type[_C], files: Sequence[str] = (), overrides: Mapping[str, Any] = {}) -> _C:
    """Build a Config from YAML files (later ones win, key by key) and overrides (dotted keys, which win over files).

    An override may be the value itself or its text, as on the command line: `{"optim.lr": 1e-4}` or `{"optim.lr": "1e-4"}`;
    the text `null` or `none` unsets a value that may be None. Raises ConfigError for an unknown key, a wrong type, a missing
    value or a file that is not plain YAML, and passes on what the Config's own `__post_init__` raises.
    """
    known = leaves(Config)
    values: dict[str, Any] = {}
    absent = no_options(Config)
    for file in files:
        values |= _checked(known, {name: one for name, one in _read(file, known).items() if not _is_default(absent.get(name), one)})
    values |= _checked(known, {name: Given(item, "") for name, item in overrides.items()})
    missing = [name for name, leaf in known.items() if leaf.required and name not in values]
    if missing:
        before = ", before any option that takes several values" * known[missing[0]].positional
        raise ConfigError(f"missing {', '.join(missing)}: give it on the command line (--{missing[0]} VALUE) or in a --config file{before}")
    return _build(Config, values, "", dataclasses.MISSING)


def _is_default(leaf: Leaf | None, given: Given) -> bool:
    """Whether a file, as earlier versions wrote them, has for what is no option what it is without: that says nothing."""
    try:
        return leaf is not None and value_of(leaf, given) == leaf.default
    except ConfigError:
        return False


def _checked(known: Mapping[str, Leaf], given: Mapping[str, Given]) -> dict[str, Any]:
    """The values of one file or of the overrides, converted: a wrong one is refused even where another would win over it."""
    sections, values = _sections(known), {}
    for name, one in given.items():
        if name in known:
            values[name] = value_of(known[name], one)
        elif name not in sections:
            raise one.error(f"unknown key {name!r}{suggestion(name, [*known, *sorted(sections)])}")
        elif one.item != {} and one.item != Written("", "null", True):  # an empty section is a section with nothing changed
            raise one.error(f"{name} is a section: give {', '.join(key for key in known if key.startswith(name + '.'))}")
    return values


def _build(Config: type[_C], values: Mapping[str, Any], prefix: str, instance: Any) -> _C:
    """A Config of the values under `prefix`; what is not among them comes from `instance`, or else from the class's defaults."""
    hints = typing.get_type_hints(Config)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, Config)):
        name, hint = prefix + key_of(field.name), hints[field.name]
        if dataclasses.is_dataclass(hint):
            default = default_of(field) if instance is dataclasses.MISSING else getattr(instance, field.name)
            arguments[field.name] = _build(typing.cast(type, hint), values, f"{name}.", default)
        elif name in values:
            arguments[field.name] = values[name]
    return Config(**arguments) if instance is dataclasses.MISSING else dataclasses.replace(instance, **arguments)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as JSON and YAML have it: sections are dicts, tuples are lists."""
    named = [field.name for field in dataclasses.fields(config) if not field.metadata.get("no_option")]
    return {key_of(name): _simple(getattr(config, name)) for name in named}


def _simple(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_simple(one) for one in value] if isinstance(value, tuple) else value


def save(config: Any, path: str | Path) -> None:
    """Write every value of `config` as YAML that `load` reads back equal; the first line names the verb and bertlab's version."""
    import yaml

    from bertlab import __version__

    class Dumper(yaml.SafeDumper):
        """Keeps odd line breaks, which PyYAML's plain and single-quoted styles turn into ordinary ones."""

        def represent_str(self, data: str) -> Any:
            return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')

    Dumper.add_representer(str, Dumper.represent_str)
    verb = type(config).__module__.rpartition(".")[2]
    header = f"# bertlab {verb}, version {__version__}: every setting of this run\n"
    body = yaml.dump(to_dict(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    write_text(Path(path), header + body)
