"""State: small values under keys that outlast the run.

    from dunlin import state

    orders = state.increment("orders")              # allow: { state: true }
    state.set("last", {"order": "7"})
    cart = state.bucket("carts").get("ada", [])     # allow: { state: [carts] }

The functions here are those of the function's own bucket; `bucket` has the ones that functions share, by name. Values are JSON,
which `dunlin state` shows as it is; `get_bytes` and `set_bytes` leave it at bytes. A key has 1 to 1,024 bytes of text, a value
up to 1 MiB.

In a handler of events all writes happen when it has succeeded, in one transaction with the events it returns, and none if it
fails. A handler reads what it wrote. Where another run has changed in the meantime what this one read, this one is repeated, so
a plain `get` and `set` is enough. In a handler of requests each call takes effect at once; there, `update` and `increment` are
what doesn't lose a write to another request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from . import _data, _host
from ._errors import DataError, StateError
from ._event import check_text

__all__ = [
    "Bucket", "StateError", "bucket", "delete", "delete_many", "exists", "get", "get_bytes", "get_many", "increment", "keys",
    "set", "set_bytes", "set_many", "update",
]  # fmt: skip

T = TypeVar("T")


class Bucket:
    """Values under keys."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def get(self, key: str, default: None = None) -> Any: ...
    @overload
    def get(self, key: str, default: None = None, *, type: type[T]) -> T | None: ...
    @overload
    def get(self, key: str, default: T, *, type: type[T] = ...) -> T: ...
    def get(self, key: str, default: Any = None, *, type: Any = Any) -> Any:
        """What a key holds, or the default. `type` makes it a dataclass, say."""
        value = self.get_bytes(key)
        return default if value is None else self._read(key, value, type)

    def get_bytes(self, key: str) -> bytes | None:
        """What a key holds, as it is."""
        check_text("a key", key)
        return self._do(lambda bucket: bucket.get(key))

    def get_many(self, keys: Iterable[str], *, type: Any = Any) -> dict[str, Any]:
        """What several keys hold, as of one moment. A key that holds nothing is left out."""
        wanted = _keys(keys)
        values = self._do(lambda bucket: bucket.get_many(wanted))
        return {key: self._read(key, value, type) for key, value in zip(wanted, values) if value is not None}

    def set(self, key: str, value: Any) -> None:
        """Writes a value."""
        self.set_bytes(key, self._write(key, value))

    def set_bytes(self, key: str, value: bytes) -> None:
        """Writes bytes as they are."""
        check_text("a key", key)
        self._do(lambda bucket: bucket.set(key, bytes(value)))

    def set_many(self, values: Mapping[str, Any]) -> None:
        """Writes several values: all of them or, with an error, none."""
        _keys(values)
        entries = [(key, self._write(key, value)) for key, value in values.items()]
        self._do(lambda bucket: bucket.set_many(entries))

    def delete(self, key: str) -> None:
        """Takes away what a key holds, if it holds something."""
        check_text("a key", key)
        self._do(lambda bucket: bucket.delete(key))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Takes away what several keys hold."""
        unwanted = _keys(keys)
        self._do(lambda bucket: bucket.delete_many(unwanted))

    def exists(self, key: str) -> bool:
        """Whether a key holds something."""
        check_text("a key", key)
        return self._do(lambda bucket: bucket.exists(key))

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to the number a key holds, 0 where it holds nothing, and answers with the sum."""
        check_text("a key", key)
        if not -(1 << 63) <= delta < 1 << 63:
            raise ValueError(f"{delta} does not fit 64 bits")
        return self._do(lambda bucket: bucket.increment(key, delta))

    def update(self, key: str, change: Callable[[Any], T], *, default: Any = None, type: Any = Any) -> T:
        """Replaces what a key holds by what is made of it, and answers with that.

            state.update("names", lambda names: [*names, "ada"], default=[])

        If somebody else was faster, it is made anew of what is there then. If `change` raises, nothing is written.
        """

        check_text("a key", key)
        cas = self._do(lambda bucket: bucket.look(key))
        while True:
            new = change(default if cas.held is None else self._read(key, cas.held, type))
            value = self._write(key, new)
            changed = self._guard(lambda: cas.swap(value))
            if changed is None:
                return new
            cas = changed

    def keys(self) -> Iterator[str]:
        """All its keys. They are asked for a thousand at a time, so a bucket may have any number of them."""
        cursor: str | None = None
        while True:
            page, cursor = self._do(lambda bucket: bucket.list_keys(cursor))
            yield from page
            if cursor is None:
                return

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    def _do(self, work: Callable[[_host.Bucket], T]) -> T:
        return self._guard(lambda: work(_host.host.bucket(self.name)))

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except StateError as error:
            raise self._error(str(error), denied=error.denied) from None

    def _read(self, key: str, value: bytes, type_: Any) -> Any:
        try:
            return _data.loads(type_, value)
        except DataError as error:
            raise self._error(f"`{key}` holds no `{_data.name_of(type_)}`: {error}") from None

    def _write(self, key: str, value: Any) -> bytes:
        try:
            return _data.dumps(value)
        except DataError as error:
            raise self._error(f"the value for `{key}` can't be written: {error}") from None

    def _error(self, reason: str, *, denied: bool = False) -> StateError:
        whose = "the function's state" if self.name == "default" else f"the state `{self.name}`"
        return StateError(f"{whose}: {reason}", denied=denied)


def _keys(keys: Iterable[str]) -> list[str]:
    found = list(keys)
    for key in found:
        check_text("a key", key)
    return found


def bucket(name: str) -> Bucket:
    """A bucket that functions share, by its name."""
    return Bucket(name)


_own = Bucket("default")

get = _own.get
get_bytes = _own.get_bytes
get_many = _own.get_many
set = _own.set
set_bytes = _own.set_bytes
set_many = _own.set_many
delete = _own.delete
delete_many = _own.delete_many
exists = _own.exists
increment = _own.increment
update = _own.update
keys = _own.keys
