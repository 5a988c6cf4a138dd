# SPDX-License-Identifier: Apache-2.0

"""Read YAML strictly: a profile, or any mapping that is to become a frozen dataclass.

Nothing is guessed: a plain scalar is null, true, false, a decimal number, or
text, and what YAML readers have ever disagreed about (no, 0100, 1:30) is
refused, as are aliases, tags, and keys written twice. Every refusal is a
``ProfileError``: one sentence with the file, the key, what was found, and what
is allowed.
"""

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
import yaml

from numad_py.mendable import Mendable

Parameters = TypeVar("Parameters")
Limits = TypeVar("Limits")
Value = TypeVar("Value")

_MAX_DEPTH: Final = 16
_RESOLVER: Final[Any] = yaml.resolver.Resolver()
_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_UNAMBIGUOUS: Final = "true, false, a plain decimal number, or text in quotes"
_DISPUTED: Final = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "null"))
_A_MAPPING: Final = "a mapping of keys to values"
_TYPE_NAMES: Final[Mapping[Any, str]] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "text",
    tuple[float, float]: "a list of two numbers",
    type(None): "nothing",
}


class ProfileError(Mendable, ValueError):
    """What an operator wrote is not understood; one sentence says where and why."""


@dataclass(frozen=True)
class Profile(Generic[Parameters, Limits]):
    """A policy by name, its parameters, and the limits that the guard holds it to."""

    name: str
    policy: str
    parameters: Parameters
    guard: Limits


@dataclass(frozen=True)
class _Document:
    policy: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    guard: Mapping[str, Any] = field(default_factory=dict)


def read(
    path: Path, policies: Mapping[str, type[Parameters]], limits: type[Limits]
) -> Profile[Parameters, Limits]:
    """Read one profile; its name is the file's, without the ending.

    ``policies`` gives the dataclass of parameters by policy name, ``limits`` is that of the guard.
    """
    if path.stem == "off":
        _refuse(str(path), "the name off", "any other: the label off means that a job is left alone")
    document = from_mapping(_Document, load_yaml(path), str(path))
    if document.policy not in policies:
        _refuse(f"{path}: policy", _found(document.policy), _one_of(policies))
    return Profile(
        path.stem,
        document.policy,
        from_mapping(policies[document.policy], document.parameters, f"{path}: parameters"),
        from_mapping(limits, document.guard, f"{path}: guard"),
    )


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds one mapping; without any content it is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: byte {error.start} is not UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Give the mapping that the text holds; ``where`` begins every refusal."""
    events = _events(text, where)
    documents = [
        _value(events, next(events), where, depth=0)
        for event in events
        if isinstance(event, yaml.DocumentStartEvent)
    ]
    if len(documents) > 1:
        _refuse(where, f"{len(documents)} documents", "one")
    root = documents[0] if documents else None
    if root is None:
        return {}
    if not isinstance(root, dict):
        _refuse(where, _found(root), _A_MAPPING)
    return root


def from_mapping(cls: type[Value], mapping: Mapping[str, Any], where: str) -> Value:
    """Build a dataclass from a mapping whose every key and type is as declared.

    A field may be text, a number, a boolean, an enum, a literal, any of these or None, a dataclass,
    ``tuple[X, ...]`` or ``Mapping[str, X]``. A ValueError("key: sentence") of ``__post_init__`` is a
    refusal too.
    """
    wanted: dict[str, Field[Any]] = {each.name: each for each in fields(cast(Any, cls)) if each.init}
    for key in mapping:
        if key not in wanted:
            _refuse(where, f"the unknown key {reprlib.repr(key)}", _one_of(wanted))
    for key, each in wanted.items():
        if key not in mapping and each.default is MISSING and each.default_factory is MISSING:
            _refuse(f"{where}: {key}", "no value", "one, since there is no default")
    hints = get_type_hints(cls)
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:
        key, _, sentence = str(error).partition(": ")
        said = f"{key}: found {_found(mapping[key])}; {sentence}" if key in mapping else error
        raise ProfileError(f"{where}: {said}") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint) or origin is Mapping:
        if not isinstance(value, dict):
            _refuse(where, _found(value), _A_MAPPING)
        if origin is Mapping:
            return {key: _convert(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
        return from_mapping(cast("type[Any]", hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            _refuse(where, _found(value), "a list")
        return tuple(_convert(arguments[0], item, f"{where}: item {n}") for n, item in enumerate(value, 1))
    return _leaf(hint, value, where)


def _leaf(hint: Any, value: Any, where: str) -> Any:
    try:
        leaf = msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError:
        _refuse(where, _found(value), _allowed(hint))
    if isinstance(leaf, float) and not isfinite(leaf):
        _refuse(where, _found(value), "a finite number")
    return leaf


def _events(text: str, where: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProfileError(f"{where}: line {line} is not YAML: {error.problem}") from None
    except (yaml.YAMLError, OverflowError, ValueError) as error:
        # PyYAML lets chr() and int() speak for an escape like "\UFFFFFFFF" or a %YAML of many digits.
        raise ProfileError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def _value(events: Iterator[Any], event: Any, where: str, *, depth: int) -> Any:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None or event.tag is not None:
        _refuse(where, "an alias, an anchor or a tag", "the value itself")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, where)
    if depth == _MAX_DEPTH:
        _refuse(where, "deeper nesting", f"{_MAX_DEPTH} levels")
    if isinstance(event, yaml.SequenceStartEvent):
        return [
            _value(events, item, f"{where}: item {n}", depth=depth + 1)
            for n, item in enumerate(_until(yaml.SequenceEndEvent, events), 1)
        ]
    return _mapping(events, where, depth=depth)


def _mapping(events: Iterator[Any], where: str, *, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for event in _until(yaml.MappingEndEvent, events):
        key = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if not key or not key.isprintable():
            _refuse(where, "a key that is no word", "keys that are words")
        if key in result:
            _refuse(f"{where}: {key}", "the key twice", "once")
        result[key] = _value(events, next(events), f"{where}: {key}", depth=depth + 1)
    return result


def _until(end: type[yaml.Event], events: Iterator[Any]) -> Iterator[Any]:
    return takewhile(lambda event: not isinstance(event, end), events)


def _scalar(event: Any, where: str) -> bool | int | float | str | None:
    text: str = event.value
    if event.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _RESOLVER.resolve(yaml.ScalarNode, text, (True, False)) in _DISPUTED:
        _refuse(where, f"a bare {reprlib.repr(text)[1:-1]}", _UNAMBIGUOUS)
    return text


def _refuse(where: str, found: str, allowed: str) -> NoReturn:
    raise ProfileError(f"{where}: found {found}, allowed is {allowed}")


def _found(value: object) -> str:
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing", bool: str(value).lower()}
    return kinds.get(type(value)) or reprlib.repr(value)


def _allowed(hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _one_of(str(member.value) for member in hint)
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint))
    if hint in _TYPE_NAMES:
        return _TYPE_NAMES[hint]
    return " or ".join(map(_allowed, get_args(hint))) or str(hint)


def _one_of(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
