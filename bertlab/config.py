"""From YAML files and dotted overrides to one frozen dataclass, strictly: what is not known or not of its type is refused with its place.

A verb's Config is the only schema: its fields' types, defaults and attribute docstrings; a field may be a dataclass itself (a section, its
keys are written `section.key`). Later files win key by key, overrides win over files, what nobody gives keeps the dataclass's default.
Values are converted by the declared type and not by YAML's guess: `1e-4` is a number where a number is wanted, and `no` is refused where
text is wanted. Infinity and NaN are never numbers here. Imports nothing but the standard library and, once a file is read, yaml.
Relative paths inside a file mean what they mean on the command line: they start at the working directory.
"""

import ast
import dataclasses
import difflib
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from bertlab.disk import write_text
from bertlab.errors import ConfigError

LARGEST_FILE = 1_000_000  # bytes; a configuration has a few hundred, so more is another kind of file

_C = TypeVar("_C")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_NUMBER = re.compile(r"[-+]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
POSITIONAL = {"positional": True}  # a field's metadata: on the command line its value may stand without its name
_KINDS = {"scalar": "a single value", "sequence": "a list", "mapping": "a mapping"}
_NAMES: dict[Any, str] = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false", type(None): "null"}


# --- the schema: what a Config may be given
@dataclasses.dataclass(frozen=True)
class Leaf:
    """One value of a Config: its dotted name, its type, its default (dataclasses.MISSING where it must be given), and whether the command
    line may give it without its name."""

    name: str
    hint: Any
    default: Any
    positional: bool = False

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type: `int | None` has two, any other type is its own only one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def is_list(hint: Any) -> bool:
    """True for `tuple[X, ...]`, alone or with `| None`: several values may be given."""
    return any(typing.get_origin(member) is tuple for member in members(hint))


def is_flag(hint: Any) -> bool:
    """True for `bool` and `bool | None`."""
    return set(members(hint)) - {type(None)} == {bool}


def leaves(Config: type) -> dict[str, Leaf]:
    """Every value of a Config by its dotted name, in the order in which the fields are declared, what must be given first, its own before
    those of the Config that it extends, and so on."""
    return {leaf.name: leaf for leaf in _leaves(Config, "", dataclasses.MISSING)}


def _leaves(Config: type, prefix: str, instance: Any) -> Iterator[Leaf]:
    hints = typing.get_type_hints(Config)
    depth = {name: place for place, cls in reversed(list(enumerate(Config.__mro__))) for name in inspect.get_annotations(cls)}
    for field in sorted(dataclasses.fields(Config), key=lambda field: (not _is_required(field), depth[field.name])):
        hint = hints[field.name]
        default = _default(field) if instance is dataclasses.MISSING else getattr(instance, field.name)
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{prefix}{field.name}.", default)
        else:
            yield Leaf(prefix + _key(field.name), hint, default, field.metadata.get("positional", False))


def _key(name: str) -> str:
    """How a field is called in files and on the command line: `in_` is `in`, a word that Python keeps for itself."""
    return name.removesuffix("_")


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _sections(names: Iterable[str]) -> set[str]:
    return {name[: dot.start()] for name in names for dot in re.finditer(r"\.", name)}


def docs(Config: type) -> dict[str, str]:
    """The docstring below each field, by dotted name. A field without one, or a class whose source cannot be read, is absent."""
    found: dict[str, str] = {}
    for base in reversed(Config.__mro__[:-1]):
        found |= _own_docs(base)
    hints = typing.get_type_hints(Config)
    sections = [name for name, hint in hints.items() if dataclasses.is_dataclass(hint)]
    return found | {f"{section}.{name}": doc for section in sections for name, doc in docs(hints[section]).items()}


def _own_docs(cls: type) -> dict[str, str]:
    try:
        definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, doc in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
            text = doc.value.value if isinstance(doc.value, ast.Constant) else None
            if isinstance(text, str):
                found[_key(field.target.id)] = " ".join(text.split())
    return found


def suggestion(name: str, names: Iterable[str]) -> str:
    """`: did you mean 'optim.lr'?` for the nearest of `names`, or nothing when none is near."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1)
    # `lr` and `model.lr` are far from `optim.lr` letter by letter, yet they are the same word in another section.
    near = near or [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    near = near or [known for known in names if known.startswith(f"{name}_")]  # `text` where it is `text_column`
    return f": did you mean {near[0]!r}?" if near else ""


# --- values: from what was written to the declared type
@dataclasses.dataclass(frozen=True)
class _Written:
    """A scalar of a YAML file: its text, what YAML 1.1 takes it for, and whether it stands without quotes."""

    text: str
    tag: str
    plain: bool


class _Wrong(Exception):
    """A value that is not of its type; the message is an extra hint, or empty."""


def wanted(hint: Any) -> str:
    """The words for a type in a message, null left out: `one of 'cls', 'mean'`, `a whole number`."""
    return " or ".join(_kind(member) for member in members(hint) if member is not type(None))


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return {int: "a list of whole numbers", float: "a list of finite numbers"}.get(typing.get_args(hint)[0], "a list of text")
    return _NAMES[hint]


def _or_nothing(leaf: Leaf) -> str:
    """What else a value may be: `, or to be left out`."""
    if type(None) not in members(leaf.hint):
        return ""
    return ", or to be left out" if leaf.default is None else ", or null to switch it off"


def _convert(hint: Any, item: Any) -> Any:
    """`item` as the type `hint`; a _Written comes from a file, a str from the command line, anything else from Python. Raises _Wrong."""
    if len(members(hint)) > 1:
        return _any_of(members(hint), item)
    if typing.get_origin(hint) is tuple:
        inner, ellipsis = typing.get_args(hint)
        assert ellipsis is ..., f"{hint}: only tuple[X, ...] is known here"
        if item is None or isinstance(item, Mapping):
            raise _Wrong
        return tuple(_convert(inner, one) for one in (item if isinstance(item, list | tuple) else [item]))
    if typing.get_origin(hint) is Literal:
        return _choice(typing.get_args(hint), item)
    assert hint in _NAMES, f"{hint} is no type that a configuration can hold"
    if isinstance(item, _Written):
        return _from_file(hint, item)
    if isinstance(item, str) and hint is not str:
        return _from_text(hint, item)
    return _from_python(hint, item)


def _any_of(hints: tuple[Any, ...], item: Any) -> Any:
    if type(None) in hints and isinstance(item, str) and item.lower() in ("null", "none"):
        return None  # the command line has no other way to unset what a file has set
    hint = ""
    for member in sorted(hints, key=lambda member: member is str):  # text last: it would take everything
        try:
            return _convert(member, item)
        except _Wrong as wrong:
            hint = hint or str(wrong)
    raise _Wrong(hint)


def _choice(choices: tuple[Any, ...], item: Any) -> Any:
    hint = ""
    for choice in choices:
        try:
            if _convert(type(choice), item) == choice:
                return choice
        except _Wrong as wrong:
            hint = str(wrong) if isinstance(item, _Written) and item.text == choice else hint
    raise _Wrong(hint or suggestion(_shown(item).strip("'"), [choice for choice in choices if isinstance(choice, str)]))


def _from_file(hint: type, item: _Written) -> Any:
    if hint is str:
        if item.tag != "str":
            raise _Wrong(f", which YAML reads as {item.tag}: quote it, as '{item.text}'" if item.text else ", which YAML reads as null")
        return item.text
    if hint is type(None):
        return _from_python(hint, None if item.tag == "null" else item)
    if not item.plain:
        raise _Wrong(": write it without quotes")
    return _from_text(hint, item.text)


def _from_text(hint: type, text: str) -> Any:
    if hint is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if hint is int and _INTEGER.fullmatch(text) and len(text) < 100:  # Python itself refuses thousands of digits
        return int(text)
    if hint is float and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise _Wrong


def _from_python(hint: Any, value: Any) -> Any:
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise _Wrong
    return value


def _shown(item: Any) -> str:
    if isinstance(item, _Written):
        return (item.text[:60] if item.plain else repr(item.text[:60])) or ("nothing" if item.plain else "''")
    if isinstance(item, Mapping):
        return "a section of keys"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(map(_shown, item))[:60] + "]"
    return repr(item)[:62]


# --- files
@dataclasses.dataclass(frozen=True)
class _Given:
    """What a file or an override gives for one key, and where it stands (`file:line`, empty for an override)."""

    item: Any
    place: str

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.place}: {message}" if self.place else message)


def _read(file: str, names: Iterable[str]) -> dict[str, _Given]:
    """The keys of one YAML file. Raises ConfigError for a file that cannot be read, is no plain mapping, or has a key twice."""
    root = _tree(file)
    given: dict[str, _Given] = {}
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


def _walk(file: str, mapping: Any, prefix: str, sections: set[str], given: dict[str, _Given]) -> None:
    """Add the keys of a YAML mapping to `given` under their dotted names; a section's own mapping is walked in turn."""
    for key, node in mapping.value:
        place = f"{file}:{key.start_mark.line + 1}"
        if key.id != "scalar":
            raise ConfigError(f"{place}: a key is one word, not {_KINDS[key.id]}")
        name = prefix + key.value
        if name in given:
            raise ConfigError(f"{place}: duplicate key {name!r}, first given at {given[name].place}: remove one of them")
        if name in sections and node.id == "mapping":
            given[name] = _Given({}, place)  # so that a section opened twice is a duplicate too
            _walk(file, node, f"{name}.", sections, given)
        else:
            given[name] = _Given(_plain(node), place)


def _plain(node: Any) -> Any:
    if node.id == "scalar":
        return _Written(node.value, node.tag.rpartition(":")[2], node.style is None)
    return [_plain(one) for one in node.value] if node.id == "sequence" else dict.fromkeys(range(len(node.value)))


# --- the whole
def load(Config: type[_C], files: Sequence[str] = (), overrides: Mapping[str, Any] = {}) -> _C:
    """Build a Config from YAML files (later ones win, key by key) and overrides (dotted keys, which win over files).

    An override may be the value itself or its text, as on the command line: `{"optim.lr": 1e-4}` or `{"optim.lr": "1e-4"}`;
    the text `null` or `none` unsets a value that may be None. Raises ConfigError for an unknown key, a wrong type, a missing
    value or a file that is not plain YAML, and passes on what the Config's own `__post_init__` raises.
    """
    known = leaves(Config)
    values: dict[str, Any] = {}
    for file in files:
        values |= _checked(known, _read(file, known))
    values |= _checked(known, {name: _Given(item, "") for name, item in overrides.items()})
    missing = [name for name, leaf in known.items() if leaf.required and name not in values]
    if missing:
        raise ConfigError(f"missing {', '.join(missing)}: give it on the command line (--{missing[0]} VALUE) or in a --config file")
    return _build(Config, values, "", dataclasses.MISSING)


def _checked(known: Mapping[str, Leaf], given: Mapping[str, _Given]) -> dict[str, Any]:
    """The values of one file or of the overrides, converted: a wrong one is refused even where another would win over it."""
    sections, values = _sections(known), {}
    for name, one in given.items():
        if name in known:
            values[name] = _value(known[name], one)
        elif name not in sections:
            raise one.error(f"unknown key {name!r}{suggestion(name, [*known, *sorted(sections)])}")
        elif one.item != {} and one.item != _Written("", "null", True):  # an empty section is a section with nothing changed
            raise one.error(f"{name} is a section: give {', '.join(key for key in known if key.startswith(name + '.'))}")
    return values


def _value(leaf: Leaf, given: _Given) -> Any:
    try:
        return _convert(leaf.hint, given.item)
    except _Wrong as wrong:
        raise given.error(f"{leaf.name} wants {wanted(leaf.hint)}{_or_nothing(leaf)}, not {_shown(given.item)}{wrong}") from None


def _build(Config: type[_C], values: Mapping[str, Any], prefix: str, instance: Any) -> _C:
    """A Config of the values under `prefix`; what is not among them comes from `instance`, or else from the class's defaults."""
    hints = typing.get_type_hints(Config)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, Config)):
        name, hint = prefix + _key(field.name), hints[field.name]
        if dataclasses.is_dataclass(hint):
            default = _default(field) if instance is dataclasses.MISSING else getattr(instance, field.name)
            arguments[field.name] = _build(typing.cast(type, hint), values, f"{name}.", default)
        elif name in values:
            arguments[field.name] = values[name]
    return Config(**arguments) if instance is dataclasses.MISSING else dataclasses.replace(instance, **arguments)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as JSON and YAML have it: sections are dicts, tuples are lists."""
    return {_key(field.name): _simple(getattr(config, field.name)) for field in dataclasses.fields(config)}


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
