"""Data: how JSON becomes a value of a declared type, and back.

A type is turned into a reader once, a function from what `json` gives to a value, so that no annotation is looked at while
events are handled. What is wrong is told with its place: `items[0].price: expected int, got the text "3"`.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import re
import types
import typing
import uuid
from collections import abc
from typing import Any, Callable

from ._errors import DataError

Reader = Callable[[Any], Any]


class Wrong(Exception):
    """A value that doesn't fit, and the way to it, from the inside out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str | int] = []

    def __str__(self) -> str:
        path = ""
        for step in reversed(self.path):
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
        return f"{path}: {self.what}" if path else self.what


class Unreadable(TypeError):
    """A type that JSON can't be read as. A mistake in the function, found when it is built."""


def read(type_: Any, value: Any) -> Any:
    """A value as `json` gives it, as a type. Raises `DataError`."""
    try:
        return reader(type_)(value)
    except Wrong as wrong:
        raise DataError(str(wrong)) from None


def loads(type_: Any, text: bytes | str) -> Any:
    """JSON, as a type. Raises `DataError`."""
    if _may_be_deep(text):
        raise DataError("it is nested too deeply")
    try:
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8: see byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"it is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise DataError("it is nested too deeply") from None
    return read(type_, value)


_DEEP = 500
_PIECE = 1000


def _may_be_deep(text: bytes | str) -> bool:
    """Whether there may be more brackets in each other than the parser has stack for in a component, where that ends the run."""
    if not isinstance(text, bytes):
        text = text.encode("utf-8", "surrogatepass")
    if text.count(b"[") + text.count(b"{") <= _DEEP:
        return False
    depth = 0
    for at in range(0, len(text), _PIECE):
        piece = text[at : at + _PIECE]
        depth += piece.count(b"[") + piece.count(b"{") - piece.count(b"]") - piece.count(b"}")
        if depth > _DEEP:
            return _depth(text) > _DEEP
    return False


def _depth(text: bytes) -> int:
    """How deep it is, texts aside."""
    depth = deepest = 0
    for found in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        mark = found[0]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def dumps(value: Any) -> bytes:
    """A value as JSON. Raises `DataError`."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"it has a character that is none: {error.object[error.start]!r}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(str(error)) from None


def is_json(content_type: str) -> bool:
    """`application/json`, `text/json`, `application/cloudevents+json`, with parameters or without."""
    media_type = content_type.split(";")[0].strip().lower()
    return media_type.endswith("+json") or media_type.partition("/")[2] == "json"


def name_of(type_: Any) -> str:
    """A type as people write it: `Order`, `list[Order]`, `int | None`."""
    if type_ is None or type_ is type(None):
        return "None"
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated:
        return name_of(arguments[0])
    if _is_union(origin):
        return " | ".join(map(name_of, arguments))
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin is not None:
        return f"{name_of(origin)}[{', '.join('…' if a is ... else name_of(a) for a in arguments)}]"
    return getattr(type_, "__name__", None) or str(type_).removeprefix("typing.")


def _plain(value: Any) -> Any:
    """What `json` can't write by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, abc.Mapping):
        return dict(value)
    raise TypeError(f"`{type(value).__name__}` can't be written as JSON")


_readers: dict[Any, Reader] = {}


def reader(type_: Any) -> Reader:
    """What reads JSON as a type. Raises `Unreadable` if nothing does."""
    try:
        known = _readers.get(type_)
    except TypeError:  # Something in it can't be hashed.
        return _make(type_)
    if known is None:
        # A type may contain itself. Until it is made, it is found by way of this.
        made: list[Reader] = []
        _readers[type_] = lambda value: made[0](value)
        try:
            made.append(_make(type_))
        except BaseException:
            del _readers[type_]
            raise
        known = _readers[type_] = made[0]
    return known


def _make(type_: Any) -> Reader:
    if type_ in (Any, object):
        return lambda value: value
    if type_ is None or type_ is type(None):
        return _exactly(type(None), "null")
    if isinstance(type_, typing.TypeVar):
        return reader(type_.__bound__ or Any)
    if isinstance(type_, str):
        raise Unreadable(f"`{type_}` is not defined where it is used")
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated or origin in _WRAPPERS:
        return reader(arguments[0])
    if _is_union(origin):
        return _union(type_, arguments)
    if origin is typing.Literal:
        return _literal(arguments)
    supertype = getattr(type_, "__supertype__", None) or getattr(type_, "__value__", None)
    if supertype is not None:  # A `NewType`, or a `type` statement.
        return reader(supertype)
    kind = origin or type_
    if kind in _SCALARS:
        return _SCALARS[kind]
    if not isinstance(kind, type):
        raise Unreadable(f"JSON can't be read as `{name_of(type_)}`")
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, arguments)
    if typing.is_typeddict(kind):
        return _typed_dict(kind)
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if issubclass(kind, tuple):
        return _named_tuple(kind) if hasattr(kind, "_fields") else _tuple(arguments)
    if kind in (list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection):
        return _list(list, arguments)
    if kind in (set, frozenset, abc.Set, abc.MutableSet):
        return _list(frozenset if kind is frozenset else set, arguments)
    if kind in (dict, abc.Mapping, abc.MutableMapping):
        return _dict(arguments)
    raise Unreadable(f"JSON can't be read as `{name_of(type_)}`: use a dataclass, a TypedDict, or the types that JSON has")


# `Required[…]` and `NotRequired[…]` are newer than the oldest Python this runs on; in a `TypedDict` they may wrap a type.
_WRAPPERS = tuple(
    wrapper for wrapper in (getattr(typing, name, None) for name in ("Required", "NotRequired", "ReadOnly")) if wrapper
)


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or origin is types.UnionType


def _describe(value: Any) -> str:
    """A value in a message, as short as it says something."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"[:60]
    if isinstance(value, str):
        return "the text " + json.dumps(value if len(value) <= 40 else value[:40] + "…", ensure_ascii=False)
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _expected(what: str, value: Any) -> Wrong:
    return Wrong(f"expected {what}, got {_describe(value)}")


def _exactly(kind: type, name: str) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise _expected(name, value)
        return value

    return read


def _float(value: Any) -> float:
    if type(value) is int:
        return float(value)
    if type(value) is not float or not math.isfinite(value):
        raise _expected("float", value)
    return value


def _parsed(kind: Any, parse: Callable[[str], Any]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is str:
            try:
                return parse(value)
            except (ValueError, ArithmeticError):
                pass
        raise _expected(kind.__name__, value)

    return read


def _iso(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    # Python 3.10 doesn't know `Z`.
    return lambda text: parse(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


def _decimal(value: Any) -> decimal.Decimal:
    if type(value) in (int, float):
        return decimal.Decimal(str(value))
    return typing.cast(decimal.Decimal, _parsed(decimal.Decimal, decimal.Decimal)(value))


_SCALARS: dict[Any, Reader] = {
    bool: _exactly(bool, "bool"),
    int: _exactly(int, "int"),
    str: _exactly(str, "str"),
    float: _float,
    bytes: _parsed(bytes, lambda text: base64.b64decode(text, validate=True)),
    datetime.datetime: _parsed(datetime.datetime, _iso(datetime.datetime.fromisoformat)),
    datetime.date: _parsed(datetime.date, datetime.date.fromisoformat),
    datetime.time: _parsed(datetime.time, _iso(datetime.time.fromisoformat)),
    decimal.Decimal: _decimal,
    uuid.UUID: _parsed(uuid.UUID, uuid.UUID),
}


def _literal(values: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        for literal in values:
            if type(literal) is type(value) and literal == value:
                return literal
        raise _expected(" or ".join(json.dumps(literal, default=str) for literal in values), value)

    return read


def _enum(kind: type[enum.Enum]) -> Reader:
    def read(value: Any) -> Any:
        try:
            return kind(value)
        except (ValueError, TypeError):
            raise _expected(" or ".join(json.dumps(m.value, default=str) for m in kind), value) from None

    return read


def _union(type_: Any, members: tuple[Any, ...]) -> Reader:
    readers = [(member, reader(member)) for member in members]
    others = [member for member in members if member is not type(None)]
    if len(others) == 1:
        inner = reader(others[0])
        return lambda value: None if value is None else inner(value)

    def read(value: Any) -> Any:
        tried = []
        for member, read_member in readers:
            try:
                return read_member(value)
            except Wrong as wrong:
                tried.append((member, wrong))
        # The one that got furthest is most likely the one that was meant.
        _, best = max(tried, key=lambda one: len(one[1].path))
        raise best if best.path else _expected(name_of(type_), value)

    return read


def _list(make: Any, arguments: tuple[Any, ...]) -> Reader:
    item = reader(arguments[0] if arguments else Any)

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _expected("list", value)
        index = 0
        items = []
        try:
            for index, one in enumerate(value):
                items.append(item(one))
        except Wrong as wrong:
            wrong.path.append(index)
            raise
        return items if make is list else make(items)

    return read


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    if not arguments or arguments[-1] is ...:
        items = _list(list, arguments[:1])
        return lambda value: tuple(items(value))
    return _items([reader(argument) for argument in arguments], tuple)


def _named_tuple(kind: Any) -> Reader:
    hints = _hints(kind)
    readers = [reader(hints.get(field, Any)) for field in kind._fields]
    as_list = _items(readers, lambda items: kind(*items))
    required = set(kind._fields) - set(kind._field_defaults)
    as_object = _object(kind, dict(zip(kind._fields, readers)), required, lambda found: kind(**found))
    return lambda value: as_object(value) if type(value) is dict else as_list(value)


def _items(readers: list[Reader], make: Callable[[list[Any]], Any]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _expected("list", value)
        if len(value) != len(readers):
            raise Wrong(f"expected {len(readers)} values, got {len(value)}")
        index = 0
        items = []
        try:
            for index, one in enumerate(value):
                items.append(readers[index](one))
        except Wrong as wrong:
            wrong.path.append(index)
            raise
        return make(items)

    return read


def _dict(arguments: tuple[Any, ...]) -> Reader:
    key_type, value_type = arguments or (str, Any)
    item = reader(value_type)
    key = reader(key_type)
    # JSON has text for keys; numbers are read from it.
    convert = (lambda name: key(int(name))) if key_type is int else None if key_type in (str, Any) else key

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected("dict", value)
        name = ""
        found = {}
        try:
            for name, one in value.items():
                found[convert(name) if convert else name] = item(one)
        except ValueError:
            raise _expected(f"{name_of(key_type)} as a key", name) from None
        except Wrong as wrong:
            wrong.path.append(name)
            raise
        return found

    return read


def _object(kind: Any, readers: dict[str, Reader], required: abc.Set[str], make: Callable[[dict[str, Any]], Any]) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _expected(kind.__name__, value)
        found = {}
        name = ""
        try:
            for name, one in value.items():
                item = readers.get(name)
                if item is not None:
                    found[name] = item(one)
        except Wrong as wrong:
            wrong.path.append(name)
            raise
        # In the order they are declared.
        missing = [name for name in readers if name in required and name not in found]
        if missing:
            raise Wrong("missing " + ", ".join(f"`{name}`" for name in missing))
        try:
            return make(found)
        except (ValueError, TypeError, DataError) as error:  # `__post_init__` didn't like it.
            raise Wrong(str(error)) from error

    return read


def _dataclass(kind: Any, arguments: tuple[Any, ...]) -> Reader:
    hints = _hints(kind)
    bound = dict(zip(getattr(kind, "__parameters__", ()), arguments))
    fields = [field for field in dataclasses.fields(kind) if field.init]
    readers = {field.name: reader(_bind(hints[field.name], bound)) for field in fields}
    nothing = dataclasses.MISSING
    required = {field.name for field in fields if field.default is nothing and field.default_factory is nothing}
    return _object(kind, readers, required, lambda found: kind(**found))


def _bind(type_: Any, bound: dict[Any, Any]) -> Any:
    """A field's type with the arguments of the generic dataclass it is in."""
    if not bound:
        return type_
    if type_ in bound:
        return bound[type_]
    parameters = getattr(type_, "__parameters__", ())
    return type_[tuple(bound.get(parameter, parameter) for parameter in parameters)] if parameters else type_


def _typed_dict(kind: Any) -> Reader:
    readers = {name: reader(hint) for name, hint in _hints(kind).items()}
    # An object may have more than is declared, and keeps it.
    inner = _object(kind, readers, kind.__required_keys__, lambda found: found)
    return lambda value: {**value, **inner(value)} if type(value) is dict else inner(value)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise Unreadable(f"a type in `{kind.__name__}` is not defined: {error}") from None
