"""Events: what a function is given, and what it makes.

The one design choice: an event that was received and one that is being made are the same type, so that one can be passed on,
changed a little, or made up by a test. What only the other has is `None`.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, Union

from . import _data
from ._errors import DataError, Reject

T = TypeVar("T")

Attribute = Union[bool, int, str]
"""The value of an extension attribute. Over HTTP all of them arrive as text."""


class Event(Generic[T]):
    """A CloudEvent.

        Event("order.paid", Payment(order="7", amount=1290), key="7")

    `type` and `data` are all a new event needs; the platform fills in `id`, `source` and `time`. Data is sent as JSON: a
    dataclass, a dict, a list, a number, text. `bytes` are sent as they are (`application/octet-stream`), and so is text with a
    `datacontenttype` such as `text/csv`.

    A received event has all of its attributes, its data as the type the handler declares, and where it came from: `topic`,
    `offset`, and `attempt`, counted from 1.
    """

    __slots__ = (
        "type", "data", "id", "source", "subject", "time", "datacontenttype", "dataschema", "extensions",
        "topic", "offset", "attempt",
    )  # fmt: skip

    type: str
    """What happened, in the producer's words: `order.created`."""
    data: T
    """What there is to know about it."""
    id: str | None
    """With the source it is unique, and a topic takes it once."""
    source: str | None
    """Who produced it: a URI, or a path such as `/functions/billing`."""
    subject: str | None
    """What it is about, such as the order's id."""
    time: str | None
    """When it happened, as RFC 3339 has it: `2026-01-31T12:00:00Z`."""
    datacontenttype: str | None
    """What the data is: `application/json`."""
    dataschema: str | None
    """The URI of a schema the data follows."""
    extensions: dict[str, Attribute]
    """Extension attributes, by their names of lowercase letters and digits."""
    topic: str | None
    """The topic it came from."""
    offset: int | None
    """Its place there, counted from 0."""
    attempt: int | None
    """How often it has been tried, this time included."""

    def __init__(
        self,
        type: str,
        data: T = None,  # type: ignore[assignment]
        *,
        key: str | None = None,
        subject: str | None = None,
        id: str | None = None,
        source: str | None = None,
        time: str | datetime.datetime | None = None,
        datacontenttype: str | None = None,
        dataschema: str | None = None,
        extensions: Mapping[str, Attribute] | None = None,
    ) -> None:
        self.type = type
        self.data = data
        self.id = id
        self.source = source
        self.subject = subject
        self.time = _rfc3339(time) if isinstance(time, datetime.datetime) else time
        self.datacontenttype = datacontenttype
        self.dataschema = dataschema
        self.extensions = dict(extensions or {})
        if key is not None:
            self.extensions["partitionkey"] = key
        self.topic = None
        self.offset = None
        self.attempt = None

    @property
    def key(self) -> str | None:
        """The extension `partitionkey`: events of a topic with the same key are handled one after another.

        Left out, an event that is made of another has that one's.
        """
        key = self.extensions.get("partitionkey")
        return key if isinstance(key, str) else None

    @key.setter
    def key(self, key: str | None) -> None:
        if key is None:
            self.extensions.pop("partitionkey", None)
        else:
            self.extensions["partitionkey"] = key

    def replace(self, **changes: Any) -> Event[Any]:
        """The same event with other attributes. Its id and source stay unless they are named, so a topic that has it doesn't
        take it again."""
        event: Event[Any] = copy.copy(self)
        event.extensions = dict(self.extensions)
        for name, value in changes.items():
            if name not in self.__slots__ and name != "key":
                raise TypeError(f"an event has no `{name}`")
            setattr(event, name, value)
        return event

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        set_ = ((name, getattr(self, name)) for name in self.__slots__[2:])
        rest = "".join(f", {name}={value!r}" for name, value in set_ if value not in (None, {}))
        return f"Event({self.type!r}, {self.data!r}{rest})"


@dataclass
class Wire:
    """An event as it crosses between function and platform: its data in bytes."""

    type: str
    data: bytes | None = None
    id: str | None = None
    source: str | None = None
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: dict[str, Attribute] = field(default_factory=dict)
    topic: str | None = None
    offset: int | None = None
    attempt: int | None = None


def check_text(what: str, value: object) -> None:
    """Raises unless it is text that can be written."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not a `{type(value).__name__}`")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} has a character that is none: {value[error.start]!r}") from None


_COPIED = ("id", "source", "subject", "time", "dataschema", "topic", "offset", "attempt")


def written(event: Any) -> Wire:
    """An event with its data in bytes. Raises `DataError`."""
    if not isinstance(event, Event):
        raise TypeError(f"expected an `Event`, got a `{type(event).__name__}`")
    for name in ("type", "id", "source", "subject", "time", "datacontenttype", "dataschema"):
        value = getattr(event, name)
        if value is not None or name == "type":
            check_text(f"an event's `{name}`", value)
    wire = Wire(event.type, extensions=dict(event.extensions))
    for name in _COPIED:
        setattr(wire, name, getattr(event, name))
    wire.datacontenttype, wire.data = _write_data(event)
    return wire


def received(wire: Wire, type_: Any = Any) -> Event[Any]:
    """An event with its data as a type. One that can't be read is a `Reject`."""
    try:
        data = _read_data(wire, type_)
    except DataError as error:
        raise Reject(
            f"the data of `{wire.id}`, of type `{wire.type}`, is no `{_data.name_of(type_)}`: {error}"
        ) from error.__cause__
    event: Event[Any] = Event(wire.type, data, datacontenttype=wire.datacontenttype)
    event.extensions = dict(wire.extensions)
    for name in _COPIED:
        setattr(event, name, getattr(wire, name))
    return event


def _write_data(event: Event[Any]) -> tuple[str | None, bytes | None]:
    data, content_type = event.data, event.datacontenttype
    if data is None:
        return content_type, None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return content_type or "application/octet-stream", bytes(data)
    if content_type is not None and not _data.is_json(content_type):
        if isinstance(data, str):
            return content_type, data.encode()
        raise DataError(
            f"the data of an event of type `{event.type}` can't be written: "
            f"`{content_type}` is made of `str` or `bytes`, not of a `{type(data).__name__}`"
        )
    try:
        return content_type or "application/json", _data.dumps(data)
    except DataError as error:
        raise DataError(f"the data of an event of type `{event.type}` can't be written: {error}") from None


def _read_data(wire: Wire, type_: Any) -> Any:
    data, content_type = wire.data, wire.datacontenttype
    if type_ is bytes:
        return data or b""
    if data is None:
        try:
            return _data.read(type_, None)
        except DataError as error:
            raise DataError(f"there is none ({error})") from None
    if content_type is None or _data.is_json(content_type):
        return _data.loads(type_, data)
    if type_ is str or content_type.lower().startswith("text/"):
        try:
            return _data.read(type_, data.decode())
        except UnicodeDecodeError as error:
            raise DataError(f"it is not UTF-8: see byte {error.start}") from None
        except DataError as error:
            raise DataError(f"{error}; its content type is `{content_type}`") from None
    if type_ in (Any, object):
        return data
    raise DataError(f"its content type is `{content_type}`, and only JSON can be read so")


def _rfc3339(time: datetime.datetime) -> str:
    if time.tzinfo is None:
        raise ValueError("a time without a zone is nowhere: use `datetime.now(timezone.utc)`")
    return time.isoformat().replace("+00:00", "Z")
