"""Functions that answer requests.

    @dunlin.http
    def invoice(request: Request) -> dict:
        return {"id": request.params["id"]}

or any WSGI application: `dunlin.wsgi(app)`.
"""

from __future__ import annotations

import http as standard
import inspect
import io
import json as json_
import math
import sys
import urllib.parse
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, Union, overload

from . import _data, _host, _registry, _trace
from ._errors import DataError, FetchError, Problem, Reject, Retry
from ._registry import Mistake, name_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Pairs = Union[Mapping[str, str], Iterable["tuple[str, str]"]]

_PARAMETER = "dunlin-param-"


class Headers(abc.Mapping[str, str]):
    """Headers: a mapping that doesn't mind how names are written. Of a header that comes several times it has the first value;
    `get_all` has all, and `pairs` is what there is."""

    def __init__(self, headers: Pairs = ()) -> None:
        pairs = headers.pairs if isinstance(headers, Headers) else headers.items() if isinstance(headers, Mapping) else headers
        self.pairs: list[tuple[str, str]] = [(name.lower(), str(value)) for name, value in pairs]

    def __getitem__(self, name: str) -> str:
        name = name.lower()
        for found, value in self.pairs:
            if found == name:
                return value
        raise KeyError(name)

    def get_all(self, name: str) -> list[str]:
        """All values of a header."""
        name = name.lower()
        return [value for found, value in self.pairs if found == name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(found == name.lower() for found, _ in self.pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self.pairs})

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


class _Body:
    """What a request and the answer of another server have in common."""

    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"the body is not UTF-8: see byte {error.start}") from None


class Request(_Body):
    """A request. Its body is read whole, up to the manifest's `limits.request_body`."""

    method: str
    """`GET`"""
    url: str
    """As it was called: `https://example.com/orders/7?full=1`."""
    params: dict[str, str]
    """The parameters of the path, `{id}` in the manifest's `path`, decoded."""
    query: dict[str, str]
    """The parameters of the query. Of one that comes several times it has the first; see `query_list`."""

    def __init__(self, method: str = "GET", url: str = "/", headers: Pairs = (), body: bytes = b"") -> None:
        self.method = method
        self.url = url
        self.headers = Headers(headers)
        self.body = body
        parts = urllib.parse.urlsplit(url)
        self.path = parts.path or "/"
        self.query_string = parts.query
        self.query_list: list[tuple[str, str]] = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        self.query = dict(reversed(self.query_list))
        self.params = {
            name[len(_PARAMETER) :]: urllib.parse.unquote(value)
            for name, value in self.headers.pairs
            if name.startswith(_PARAMETER)
        }

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, as a type: `request.json(Order)`. What can't be read is a 400 that says where, and another content
        type a 415."""
        content_type = self.headers.get("content-type")
        if content_type is None or not _data.is_json(content_type):
            found = f"`{content_type}`" if content_type else "without a content type"
            raise Problem(415, f"the body must be `application/json`; it is {found}")
        try:
            return _data.loads(type, self.body)
        except DataError as error:
            raise Problem(400, f"the body is wrong: {error}") from None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"


class Response:
    """An answer. Its body is bytes, text, an iterable of bytes, which is sent piece by piece, or anything that can be written as
    JSON."""

    def __init__(self, body: Any = b"", status: int = 200, headers: Pairs = ()) -> None:
        self.status = int(status)
        self.headers = Headers(headers)
        content_type: str | None = None
        self.body: bytes | Iterable[bytes]
        if isinstance(body, (bytes, bytearray, memoryview)):
            self.body = bytes(body)
        elif isinstance(body, str):
            self.body, content_type = body.encode(), "text/plain; charset=utf-8"
        elif body is None:
            self.body = b""
        elif isinstance(body, abc.Iterator):
            self.body = body
        else:
            self.body, content_type = _data.dumps(body), "application/json"
        if content_type and "content-type" not in self.headers:
            self.headers.pairs.append(("content-type", content_type))

    def read(self) -> bytes:
        """The whole body."""
        if not isinstance(self.body, bytes):
            self.body = b"".join(self.body)
        return self.body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.read().decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json_.loads(self.read())

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def http(function: F) -> F:
    """Makes a function the one that answers the component's requests.

        @dunlin.http
        def hello(request: Request) -> dict:
            return {"hello": request.query.get("name", "world")}

    It takes a `Request` and answers with a `Response`, text, bytes, what can be written as JSON, nothing (204), or a status and
    headers after one of these: `return {"id": 7}, 201`.

    **Errors** become `application/problem+json` (RFC 9457). A `Problem` is shown as it is, and so is the text of a `Reject`, as a
    400. Any other is a 500 that says nothing to the caller (a 503 for a `Retry` with a time); it goes to the log with its stack.
    """
    if not callable(function):
        raise Mistake("`@dunlin.http` is put on a function")
    _registry.add("http", function)
    return function


def wsgi(app: F) -> F:
    """Makes a WSGI application, of Flask or Bottle, say, the one that answers the component's requests.

    app = Flask(__name__)
    dunlin.wsgi(app)
    """
    if not callable(app):
        raise Mistake("`dunlin.wsgi` takes a WSGI application")
    _registry.add("wsgi", app)
    return app


Answer = Callable[[Request], Response]


def answerer(registered: _registry.Registered) -> Answer:
    """What answers requests, whatever happens."""
    function = registered.function
    if inspect.iscoroutinefunction(function):
        raise Mistake(f"`{name_of(function)}` is `async`: it is to be a plain function")
    if registered.decorator == "wsgi":
        answer: Callable[[Request], Any] = partial(_call_wsgi, function)
    else:
        try:
            inspect.signature(function).bind(None)
        except TypeError:
            raise Mistake(f"`{name_of(function)}` takes one argument, `request: Request`") from None
        answer = function

    def safe(request: Request) -> Response:
        try:
            return _response(answer(request))
        # `SystemExit` too: nothing that a request does is to end the others.
        except BaseException as error:
            return failed(error)

    return safe


def _response(answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if answer is None:
        return Response(status=204)
    if isinstance(answer, standard.HTTPStatus):
        return Response(status=answer)
    if type(answer) is tuple:
        body, status, *headers = answer if len(answer) > 1 else (*answer, 200)
        return Response(body, status, *headers)
    return Response(answer)


def failed(error: BaseException) -> Response:
    """The answer when there is none: what went wrong goes to the log, and to the caller what is meant for it."""
    status = 500
    detail: str | None = None
    headers: dict[str, str] = {}
    if isinstance(error, Problem):
        status, detail = error.status, error.detail
    elif isinstance(error, Reject):
        status, detail = 400, str(error)
    else:
        _host.host.log("error", _trace.describe(error), [])
        if isinstance(error, Retry) and error.after is not None:
            # Whole seconds, and never too early.
            status, headers = 503, {"retry-after": str(math.ceil(error.after))}
    document: dict[str, Any] = {"status": status}
    try:
        document["title"] = standard.HTTPStatus(status).phrase
    except ValueError:
        pass
    if detail:
        document["detail"] = detail
    return Response(document, status, {"content-type": "application/problem+json", **headers})


def _call_wsgi(app: Callable[..., Any], request: Request) -> Response:
    url = urllib.parse.urlsplit(request.url)
    scheme = url.scheme or "http"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query_string,
        "SERVER_NAME": url.hostname or "localhost",
        "SERVER_PORT": str(url.port or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip(),
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "dunlin.request": request,
    }
    for name in request.headers:
        value = ("; " if name == "cookie" else ", ").join(request.headers.get_all(name))
        variable = name.upper().replace("-", "_")
        environ[variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"] = value
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ.setdefault("HTTP_HOST", url.netloc or "localhost")

    started: list[tuple[int, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        if started and exc_info is None:
            raise RuntimeError("`start_response` was called twice")
        started[:] = [(int(status.split()[0]), headers)]
        return written.append

    result = app(environ, start_response)

    def body() -> Iterator[bytes]:
        try:
            yield from written
            yield from chunks
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    chunks = iter(result)
    if not started:
        # An application that is a generator calls it when it is asked for its first piece.
        first = next(chunks, None)
        if first is not None:
            written.append(first)
    if not started:
        raise RuntimeError("the WSGI application did not call `start_response`")
    status, headers = started[0]
    whole = isinstance(result, (list, tuple))
    return Response(b"".join(body()) if whole else body(), status, headers)


class FetchResponse(_Body):
    """What another server answered."""

    def __init__(self, url: str, status: int, headers: Pairs, body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = Headers(headers)
        self.body = body

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, as a type. Raises `DataError`."""
        return _data.loads(type, self.body)

    def raise_for_status(self) -> FetchResponse:
        """Raises a `FetchError` unless the status is 200 to 299."""
        if not self.ok:
            raise FetchError(f"{self.url} answered {self.status}")
        return self

    def __repr__(self) -> str:
        return f"<FetchResponse {self.status} {self.url}>"


def fetch(
    url: str,
    *,
    method: str | None = None,
    headers: Pairs = (),
    body: bytes | str | None = None,
    json: Any = None,
    timeout: float | None = None,
) -> FetchResponse:
    """Asks another server, which the manifest names in `allow.http`, and reads the whole answer.

        rate = dunlin.fetch("https://rates.example.com/eur", timeout=5).raise_for_status().json()

    Raises a `FetchError`, which is an `OSError`, if there is no answer. Any status is one.
    """
    sent = Headers(headers)
    if json is not None:
        if body is not None:
            raise TypeError("a request has a `body` or `json`, not both")
        body = _data.dumps(json)
        if "content-type" not in sent:
            sent.pairs.append(("content-type", "application/json"))
    payload = body.encode() if isinstance(body, str) else bytes(body or b"")
    method = method or ("GET" if body is None else "POST")
    status, received, content = _host.host.fetch(method.upper(), url, sent.pairs, payload, timeout)
    return FetchResponse(url, status, received, content)
