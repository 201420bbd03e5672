"""The platform, by the interfaces of `sdk/wit`. Only a component has it."""

# mypy: ignore-errors
from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Sequence

from componentize_py_types import Err
from wit_world.imports import atomics, batch, outgoing_handler, store
from wit_world.imports import dunlin_function_types as types
from wit_world.imports import log as log_lines
from wit_world.imports import publish as publishing
from wit_world.imports import wasi_http_types as wasi
from wit_world.imports.streams import StreamError_Closed

from ._errors import FetchError, PublishError, StateError
from ._event import Attribute, Wire
from ._memory import check_attribute

building = True
"""Whether the module is only being imported, for the component to be made. There is nobody to talk to then."""

_LEVELS = {name: getattr(log_lines.Level, name.upper()) for name in ("trace", "debug", "info", "warn", "error")}


class BuildTimeError(RuntimeError):
    """Something was asked of the platform while the function was built."""


def _running(what: str) -> None:
    if building:
        raise BuildTimeError(
            f"{what} while the module is imported. That happens once, when the function is built: do it in the handler"
        )


def received(delivery) -> Wire:
    event = delivery.event
    return Wire(
        event.kind, event.data, event.id, event.source, event.subject, event.time, event.data_content_type, event.data_schema,
        {name: attribute.value for name, attribute in event.extensions},
        delivery.topic, delivery.offset, delivery.attempt,
    )  # fmt: skip


def draft(wire: Wire):
    return types.Draft(
        wire.id, wire.source, wire.type, wire.subject, wire.time, wire.datacontenttype, wire.dataschema,
        [(name, _attribute(name, value)) for name, value in wire.extensions.items()],
        wire.data,
    )  # fmt: skip


def _attribute(name: str, value: Attribute):
    check_attribute(name, value)
    if isinstance(value, bool):
        return types.Attribute_Boolean(value)
    return types.Attribute_Integer(value) if isinstance(value, int) else types.Attribute_Text(value)


def publish(topic: str, events: list[Wire]) -> None:
    _running(f"an event was published to `{topic}`")
    try:
        publishing.publish(topic, [draft(event) for event in events])
    except Err as error:
        raise PublishError(error.value) from None


def log(level: str, message: str, fields: list[tuple[str, str]]) -> None:
    if building:
        print(level, message, *(f"{name}={value}" for name, value in fields))
        return
    log_lines.write(_LEVELS[level], _text(message), [(_text(name), _text(value)) for name, value in fields])


def _text(text: str) -> str:
    """What is logged is logged, characters that are none or not."""
    return text.encode("utf-8", "backslashreplace").decode()


def variable(name: str) -> str | None:
    _running(f"`{name}` was read")
    return os.environ.get(name)


class bucket:
    def __init__(self, name: str) -> None:
        _running("state was used")
        self.name = name

    def _do(self, work):
        try:
            with store.open(self.name) as opened:
                return work(opened)
        except Err as error:
            raise _state_error(self.name, error.value) from None

    def get(self, key):
        return self._do(lambda opened: opened.get(key))

    def set(self, key, value):
        self._do(lambda opened: opened.set(key, value))

    def delete(self, key):
        self._do(lambda opened: opened.delete(key))

    def exists(self, key):
        return self._do(lambda opened: opened.exists(key))

    def list_keys(self, cursor):
        page = self._do(lambda opened: opened.list_keys(cursor))
        return page.keys, page.cursor

    def get_many(self, keys):
        return [value for _, value in self._do(lambda opened: batch.get_many(opened, keys))]

    def set_many(self, entries):
        self._do(lambda opened: batch.set_many(opened, entries))

    def delete_many(self, keys):
        self._do(lambda opened: batch.delete_many(opened, keys))

    def increment(self, key, delta):
        return self._do(lambda opened: atomics.increment(opened, key, delta))

    def look(self, key):
        return Cas(self.name, self._do(lambda opened: atomics.Cas.new(opened, key)))


class Cas:
    def __init__(self, name, cas) -> None:
        self.name = name
        self.cas = cas
        try:
            self.held = cas.current()
        except Err as error:
            raise _state_error(name, error.value) from None

    def swap(self, value):
        try:
            atomics.swap(self.cas, value)
            return None
        except Err as error:
            if isinstance(error.value, atomics.CasError_CasFailed):
                return Cas(self.name, error.value.value)
            raise _state_error(self.name, error.value.value) from None


def _state_error(name: str, error) -> StateError:
    if isinstance(error, store.Error_NoSuchStore):
        return StateError("there is no such bucket", denied=True)
    if isinstance(error, store.Error_AccessDenied):
        line = "state: true" if name == "default" else f"state: [{name}]"
        return StateError(f"the manifest doesn't allow it: add `allow: {{ {line} }}`", denied=True)
    return StateError(error.value)


_METHODS = {name: f"Method_{name.capitalize()}" for name in "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH".split()}
_METHOD_NAMES = {variant: name for name, variant in _METHODS.items()}


def method_name(method) -> str:
    return _METHOD_NAMES.get(type(method).__name__) or method.value


def fetch(method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, timeout: float | None):
    _running(f"{url} was fetched")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FetchError(f"`{url}` is no http or https URL")
    fields = [(name, value.encode("latin-1", "replace")) for name, value in headers]
    if body and not any(name == "content-length" for name, _ in fields):
        fields.append(("content-length", str(len(body)).encode()))
    try:
        request = wasi.OutgoingRequest(wasi.Fields.from_list(fields))
        variant = _METHODS.get(method)
        request.set_method(getattr(wasi, variant)() if variant else wasi.Method_Other(method))
        request.set_scheme(wasi.Scheme_Https() if parts.scheme == "https" else wasi.Scheme_Http())
        request.set_authority(parts.netloc.rpartition("@")[2])
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        request.set_path_with_query(f"{path}?{parts.query}" if parts.query else path)
    except Err as error:
        raise FetchError(f"{method} {url}: it can't be sent: {_error_text(error.value)}") from None
    options = None
    if timeout is not None:
        options = wasi.RequestOptions()
        nanoseconds = int(timeout * 1e9)
        options.set_connect_timeout(nanoseconds)
        options.set_first_byte_timeout(nanoseconds)
        options.set_between_bytes_timeout(nanoseconds)
    try:
        outgoing = request.body()
        future = outgoing_handler.handle(request, options)
        try:
            if body:
                write_body(outgoing, [body])
            else:
                wasi.OutgoingBody.finish(outgoing, None)
        except Err:
            pass  # The server didn't want all of it. What it thinks is in its answer.
        with future.subscribe() as ready:
            ready.block()
        answer = future.get()
        # An answer, which may be an error: once taken, or not.
        if isinstance(answer, Err) or isinstance(answer.value, Err):
            raise answer if isinstance(answer, Err) else answer.value
        response = answer.value.value
        received_headers = header_pairs(response.headers())
        return response.status(), received_headers, read_body(response.consume())
    except Err as error:
        if isinstance(error.value, wasi.ErrorCode_HttpRequestDenied):
            line = f'add `allow: {{ http: ["{parts.scheme}://{parts.netloc.rpartition("@")[2]}"] }}`'
            raise FetchError(f"{method} {url}: the manifest doesn't allow it: {line}") from None
        raise FetchError(f"{method} {url}: {_error_text(error.value)}") from None


def header_pairs(fields) -> list[tuple[str, str]]:
    with fields:
        return [(name, value.decode("latin-1")) for name, value in fields.entries()]


def read_body(body) -> bytes:
    """Reads a body whole. Raises `Err` if it breaks off."""
    pieces = []
    with body:
        with body.stream() as stream:
            while True:
                try:
                    pieces.append(stream.blocking_read(1 << 20))
                except Err as error:
                    if isinstance(error.value, StreamError_Closed):
                        break
                    raise
    return b"".join(pieces)


def write_body(body, pieces: Iterable[bytes]) -> None:
    """Writes a body to its end. Raises `Err` if nobody takes it."""
    with body.write() as stream:
        with stream.subscribe() as ready:
            for piece in pieces:
                at = 0
                while at < len(piece):
                    room = stream.check_write()
                    if room == 0:
                        ready.block()
                        continue
                    stream.write(piece[at : at + room])
                    at += room
        stream.blocking_flush()
    wasi.OutgoingBody.finish(body, None)


def _error_text(error) -> str:
    """`ErrorCode_ConnectionTimeout()` in words: `connection timeout`."""
    name = type(error).__name__.partition("_")[2] or type(error).__name__
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    value = getattr(error, "value", None)
    detail = value if isinstance(value, str) else repr(value) if value is not None else ""
    return f"{words}: {detail}" if detail else words
