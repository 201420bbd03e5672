"""A platform in memory, for tests.

It refuses what the platform refuses about keys, values and events, so that a test fails where a run would.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._errors import FetchError, PublishError, StateError
from ._event import Wire, check_text

_MAX_KEY = 1024
_MAX_VALUE = 1 << 20
_PAGE = 10
"""Keys at a time: few, so that a test meets more than one page."""

Answerer = Callable[[str, str, "list[tuple[str, str]]", bytes], "tuple[int, list[tuple[str, str]], bytes]"]


@dataclass
class Contents:
    """All there is."""

    published: list[tuple[str, Wire]] = field(default_factory=list)
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    logged: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    answerer: Answerer | None = None
    made: int = 0


contents = Contents()


def reset() -> None:
    global contents
    contents = Contents()


def snapshot() -> tuple[Any, Any]:
    return copy.copy(contents.published), copy.deepcopy(contents.buckets)


def restore(before: tuple[Any, Any]) -> None:
    contents.published, contents.buckets = before


def publish(topic: str, events: list[Wire]) -> None:
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", topic):
        raise PublishError("it is not a topic name: use lowercase letters, digits, `-` and `_`, in parts separated by dots")
    for event in events:
        check(event)
    contents.published.extend((topic, event) for event in events)


_CORE = frozenset("id source type subject time dataschema datacontenttype specversion data data_base64".split())


def check(event: Wire) -> None:
    """Raises what the platform would say about an event's attributes, as far as a slip of the pen goes."""
    if not event.type:
        raise PublishError("`type` is empty")
    for name in ("subject", "time", "datacontenttype", "dataschema"):
        if getattr(event, name) == "":
            raise PublishError(f"`{name}` is empty; leave it out")
    for name, value in event.extensions.items():
        if name in _CORE:
            raise PublishError(f"`{name}` is no extension: the specification defines it")
        if not re.fullmatch(r"[a-z0-9]+", name):
            raise PublishError(f"`{name}` is not the name of an attribute: use lowercase letters and digits")
        check_attribute(name, value)


def check_attribute(name: str, value: object) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        check_text(f"`{name}`", value)
        return
    if not isinstance(value, int):
        raise PublishError(f"`{name}` is a `{type(value).__name__}`: an attribute is a bool, an int or text")
    if not -(1 << 31) <= value < 1 << 31:
        raise PublishError(f"`{name}` does not fit 32 bits")


def log(level: str, message: str, fields: list[tuple[str, str]]) -> None:
    contents.logged.append((level, message, fields))


def variable(name: str) -> str | None:
    return contents.variables.get(name, os.environ.get(name))


def fetch(
    method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, timeout: float | None
) -> tuple[int, list[tuple[str, str]], bytes]:
    if contents.answerer is None:
        raise FetchError(f"{method} {url}: in a test, say what answers it with `testing.answer`")
    return contents.answerer(method, url, list(headers), body)


class bucket:
    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def values(self) -> dict[str, bytes]:
        return contents.buckets.setdefault(self.name, {})

    def get(self, key: str) -> bytes | None:
        _check_key(key)
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        self._check(key, value)
        self.values[key] = value

    def delete(self, key: str) -> None:
        _check_key(key)
        self.values.pop(key, None)

    def exists(self, key: str) -> bool:
        return self.get(key) is not None

    def list_keys(self, cursor: str | None) -> tuple[list[str], str | None]:
        keys = sorted(key for key in self.values if cursor is None or key > cursor)
        return keys[:_PAGE], keys[_PAGE - 1] if len(keys) > _PAGE else None

    def get_many(self, keys: list[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def set_many(self, entries: list[tuple[str, bytes]]) -> None:
        for key, value in entries:
            self._check(key, value)
        self.values.update(entries)

    def delete_many(self, keys: list[str]) -> None:
        for key in keys:
            _check_key(key)
        for key in keys:
            self.values.pop(key, None)

    def increment(self, key: str, delta: int) -> int:
        held = self.get(key)
        try:
            total = (0 if held is None else int(held)) + delta
        except ValueError:
            raise StateError(f"`{key}` holds no number") from None
        if not -(1 << 63) <= total < 1 << 63:
            raise StateError(f"`{key}` would not fit 64 bits")
        self.set(key, str(total).encode())
        return total

    def look(self, key: str) -> Cas:
        return Cas(self, key)

    def _check(self, key: str, value: bytes) -> None:
        _check_key(key)
        if len(value) > _MAX_VALUE:
            raise StateError(f"a value has up to {_MAX_VALUE} bytes: `{key}` would have {len(value)}")


class Cas:
    def __init__(self, bucket: bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key
        self.held = bucket.get(key)

    def swap(self, value: bytes) -> Cas | None:
        if self.bucket.get(self.key) != self.held:
            return Cas(self.bucket, self.key)
        self.bucket.set(self.key, value)
        return None


def _check_key(key: str) -> None:
    length = len(key.encode())
    if length == 0:
        reason = "this one is empty"
    elif length > _MAX_KEY:
        reason = f"this one has {length} bytes"
    elif re.search(r"[\x00-\x1f\x7f-\x9f]", key):
        reason = f"`{key.encode('unicode_escape').decode()}` has some"
    else:
        return
    raise StateError(f"a key has 1 to {_MAX_KEY} bytes and no control characters: {reason}")
