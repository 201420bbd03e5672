"""Which platform there is: the real one in a component, one in memory elsewhere. Nothing but this knows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from ._event import Wire


class Cas(Protocol):
    """A value that was looked at, to be replaced if it is so still."""

    held: bytes | None

    def swap(self, value: bytes) -> Cas | None:
        """Writes the value if the key holds what it held; else answers with what it holds now."""


class Bucket(Protocol):
    """What a bucket can do. Errors are `StateError`s."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def exists(self, key: str) -> bool: ...
    def list_keys(self, cursor: str | None) -> tuple[list[str], str | None]: ...
    def get_many(self, keys: list[str]) -> list[bytes | None]: ...
    def set_many(self, entries: list[tuple[str, bytes]]) -> None: ...
    def delete_many(self, keys: list[str]) -> None: ...
    def increment(self, key: str, delta: int) -> int: ...
    def look(self, key: str) -> Cas: ...


class Host(Protocol):
    """What a platform can do."""

    def publish(self, topic: str, events: list[Wire]) -> None: ...
    def log(self, level: str, message: str, fields: list[tuple[str, str]]) -> None: ...
    def variable(self, name: str) -> str | None: ...
    def bucket(self, name: str) -> Bucket: ...
    def fetch(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, timeout: float | None
    ) -> tuple[int, list[tuple[str, str]], bytes]: ...


def _find() -> Host:
    host: Any
    if sys.platform == "wasi":
        from . import _platform as host
    else:
        from . import _memory as host
    return host  # type: ignore[no-any-return]


host: Host = _find()
