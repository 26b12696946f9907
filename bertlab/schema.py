"""What a verb's Config is: fields with names, types, defaults and docstrings, and values that are of the declared type whoever gives them.

A Config extends Settings; a field may be one itself (a section, its keys are written `section.key`). A value comes from a YAML file, from
the command line as a text, or from Python, and is converted by the declared type, or refused with what was wanted. Infinity and NaN are
never numbers here. Imports nothing but the standard library.
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
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath
from typing import Any, Literal

from bertlab.errors import ConfigError

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_NUMBER = re.compile(r"[-+]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
POSITIONAL = {"positional": True}  # a field's metadata: on the command line its value may stand without its name
NO_OPTION = {"no_option": True}  # neither files nor the command line know it: what a Config extends has it, and means something else by it
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


def no_options(Config: type) -> dict[str, Leaf]:
    """The values that neither files nor the command line know (NO_OPTION)."""
    hints = typing.get_type_hints(Config)
    fields = [field for field in dataclasses.fields(Config) if field.metadata.get("no_option")]
    return {field.name: Leaf(key_of(field.name), hints[field.name], default_of(field)) for field in fields}


def _leaves(Config: type, prefix: str, instance: Any) -> Iterator[Leaf]:
    hints = typing.get_type_hints(Config)
    depth = {name: place for place, cls in reversed(list(enumerate(Config.__mro__))) for name in inspect.get_annotations(cls)}
    for field in sorted(dataclasses.fields(Config), key=lambda field: (not _is_required(field), depth[field.name])):
        if field.metadata.get("no_option"):
            continue
        hint = hints[field.name]
        default = default_of(field) if instance is dataclasses.MISSING else getattr(instance, field.name)
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint), f"{prefix}{field.name}.", default)
        else:
            yield Leaf(prefix + key_of(field.name), hint, default, field.metadata.get("positional", False))


def key_of(name: str) -> str:
    """How a field is called in files and on the command line: `in_` is `in`, a word that Python keeps for itself."""
    return name.removesuffix("_")


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(field: dataclasses.Field) -> Any:
    """dataclasses.MISSING where it must be given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def docs(Config: type) -> dict[str, str]:
    """The docstring below each field that `leaves` names, by dotted name; absent without one, or where the source cannot be read."""
    found: dict[str, str] = {}
    for base in reversed(Config.__mro__[:-1]):
        found |= _own_docs(base)
    hints = typing.get_type_hints(Config)
    sections = [name for name, hint in hints.items() if dataclasses.is_dataclass(hint)]
    found |= {f"{section}.{name}": doc for section in sections for name, doc in docs(hints[section]).items()}
    known = leaves(Config)
    return {name: doc for name, doc in found.items() if name in known}


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
                found[key_of(field.target.id)] = " ".join(text.split())
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
class Written:
    """A scalar of a YAML file: its text, what YAML 1.1 takes it for, and whether it stands without quotes."""

    text: str
    tag: str
    plain: bool


class Wrong(Exception):
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
    """`item` as the type `hint`; a Written comes from a file, a str from the command line, anything else from Python. Raises Wrong."""
    if getattr(item, "ndim", None) == 0 and hasattr(item, "item"):
        item = item.item()  # a single value of numpy's or torch's
    if len(members(hint)) > 1:
        return _any_of(members(hint), item)
    if typing.get_origin(hint) is tuple:
        inner, ellipsis = typing.get_args(hint)
        assert ellipsis is ..., f"{hint}: only tuple[X, ...] is known here"
        if item is None or isinstance(item, Mapping):
            raise Wrong
        several = isinstance(item, Iterable) and not isinstance(item, str | bytes) and getattr(item, "ndim", 1) == 1
        return tuple(_convert(inner, one) for one in (item if several else [item]))
    if typing.get_origin(hint) is Literal:
        return _choice(typing.get_args(hint), item)
    assert hint in _NAMES, f"{hint} is no type that a configuration can hold"
    if isinstance(item, Written):
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
        except Wrong as wrong:
            hint = hint or str(wrong)
    raise Wrong(hint)


def _choice(choices: tuple[Any, ...], item: Any) -> Any:
    hint = ""
    for choice in choices:
        try:
            if _convert(type(choice), item) == choice:
                return choice
        except Wrong as wrong:
            hint = str(wrong) if isinstance(item, Written) and item.text == choice else hint
    raise Wrong(hint or suggestion(shown(item).strip("'"), [choice for choice in choices if isinstance(choice, str)]))


def _from_file(hint: type, item: Written) -> Any:
    if hint is str:
        if item.tag != "str":
            raise Wrong(f", which YAML reads as {item.tag}: quote it, as '{item.text}'" if item.text else ", which YAML reads as null")
        return item.text
    if hint is type(None):
        return _from_python(hint, None if item.tag == "null" else item)
    if not item.plain:
        raise Wrong(": write it without quotes")
    return _from_text(hint, item.text)


def _from_text(hint: type, text: str) -> Any:
    if hint is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if hint is int and _INTEGER.fullmatch(text) and len(text) < 100:  # Python itself refuses thousands of digits
        return int(text)
    if hint is float and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise Wrong


def _from_python(hint: Any, value: Any) -> Any:
    if hint is str and isinstance(value, str | PathLike):
        value = str.__str__(value) if isinstance(value, str) else fspath(value)
    elif hint is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise Wrong from None
    elif hint is str and hasattr(value, "to_parquet"):  # a table of pandas or datasets
        raise Wrong(": save it, as by .to_parquet('NAME.parquet'), and give the file's name")
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise Wrong
    return value


def shown(item: Any) -> str:
    """What was given, for a message: on one line, and no more than 62 characters of it."""
    if isinstance(item, Written):
        return (item.text[:60] if item.plain else repr(item.text[:60])) or ("nothing" if item.plain else "''")
    if isinstance(item, Mapping):
        return "a section of keys"
    if hasattr(item, "to_parquet"):
        return f"a {type(item).__name__}"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(map(shown, item))[:60] + "]"
    return " ".join(repr(item).split())[:62]  # a table's goes over several lines


@dataclasses.dataclass(frozen=True)
class Given:
    """What a file or an override gives for one key, and where it stands (`file:line`, empty for an override)."""

    item: Any
    place: str

    def error(self, message: str) -> ConfigError:
        return ConfigError(f"{self.place}: {message}" if self.place else message)


def value_of(leaf: Leaf, given: Given) -> Any:
    """What was given, as the type of `leaf`. Raises ConfigError, with its place, for what is none."""
    try:
        return _convert(leaf.hint, given.item)
    except Wrong as wrong:
        raise given.error(f"{leaf.name} wants {wanted(leaf.hint)}{_or_nothing(leaf)}, not {shown(given.item)}{wrong}") from None


# --- what a Config extends
class Settings:
    """A frozen dataclass whose values are of their declared types, also when Python made it: there a list, an array or a generator may
    stand for a tuple, one value for a tuple of one, a path for a text, and a mapping for a section.

    Raises ConfigError for a value of another type, as `load` does. What a Config checks beside comes after `super().__post_init__()`.
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(typing.cast(Any, self)):
            name, hint, value = field.name, hints[field.name], getattr(self, field.name)
            if dataclasses.is_dataclass(hint):
                made = _section(name, typing.cast(type, hint), value)
            elif isinstance(value, str) and str in members(hint):  # a text that a text may be stays one: 'none' too
                made = str.__str__(value)  # a plain one, of an enumeration's too
            else:
                made = value_of(Leaf(key_of(name), hint, default_of(field)), Given(value, ""))
            object.__setattr__(self, name, made)


def _section(name: str, section: type, value: Any) -> Any:
    """A section, or what a mapping of its keys makes."""
    if isinstance(value, section):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is a section: give a {section.__name__}, or a mapping of its keys, not {shown(value)}")
    known = leaves(section)
    strange = next((key for key in value if key not in known), None)
    if strange is not None:
        raise ConfigError(f"unknown key {f'{name}.{strange}'!r}{suggestion(str(strange), known)}")
    try:
        return section(**value)
    except ConfigError as error:
        told = str(error)
        raise ConfigError(told if told.startswith(f"{name}.") else f"{name}.{told}") from None
