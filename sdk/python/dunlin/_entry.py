"""The component: its exports, and what happens when it is built.

`componentize-py` imports this module, and with it the function's own; then the memory is kept as the component. `_dunlin_build`
is written by `_build`: which module is the function's, and what it is to answer.
"""

# mypy: ignore-errors
import _imp
import base64
import importlib.machinery
import json
import linecache
import os
import sys
import zlib

import _dunlin_build as build
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import wasi_http_types as wasi

from . import _host, _importer, _platform, _registry, _rehearsal, _standard_library, _trace
from ._errors import Reject, Retry
from ._handler import Handler as EventHandler
from ._http import Request, answerer, failed
from ._own_files import OwnFiles

# What Python imports when it first needs it, and what is not to be slow then.
import _strptime, random, weakref, encodings.ascii, encodings.idna, encodings.latin_1, traceback  # isort: skip # noqa: E401, F401

OWN = "/0/"
"""Where the function's own files are while it is built."""
CACHE, PACKAGES = "/2/", "/3"
SOURCE = "DUNLIN_PYTHON_SOURCE"
"""The variable the function's own files are in while it is developed."""

_DECORATORS = {"events": ("handler",), "http": ("http", "wsgi")}


def _load():
    """Imports the function's module. Answers with what the platform's calls are handed to."""
    _registry.found.clear()
    importlib.import_module(build.MODULE)
    wanted = _DECORATORS[build.WORLD]
    found = [registered for registered in _registry.found if registered.decorator in wanted]
    others = [registered for registered in _registry.found if registered.decorator not in wanted]
    if len(found) > 1:
        names = ", ".join(f"`{_registry.name_of(registered.function)}`" for registered in found)
        raise _registry.Mistake(f"`{build.FILE}` has {len(found)} functions for the platform to call, {names}: it can have one")
    if not found:
        what = (
            "`@dunlin.handler` on a function, which takes the events of the manifest's triggers"
            if build.WORLD == "events"
            else "`@dunlin.http` on a function or `dunlin.wsgi(app)`, for the requests of the manifest's `http` trigger"
        )
        instead = f", and not `dunlin.{others[0].decorator}`" if others else ""
        raise _registry.Mistake(f"`{build.FILE}` needs {what}{instead}")
    return EventHandler(found[0].function).run if build.WORLD == "events" else answerer(found[0])


def _forget_own_modules():
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(OWN):
            del sys.modules[name]
    _registry.found.clear()


def _prepare():
    """What happens at build time."""
    _trace.roots[:] = [OWN, *(f"{path}/" for path in sys.path if path[1:].isdigit())]
    called = None
    try:
        called = _load()
    except BaseException as error:
        # While it is developed, it is loaded again anyway.
        if not build.DEVELOPED:
            _fail(error)
    if "logging" in sys.modules:
        _log_logging()
    if "urllib.request" in sys.modules:
        importlib.import_module("dunlin._urllib")
    if build.DEVELOPED:
        _forget_own_modules()
        linecache.clearcache()
        called = None
    else:
        _trace.keep_sources()
        _trace.files_are_gone = True
    _importer.install(_modules())
    return called


def _fail(error):
    with open(f"{CACHE}error.txt", "w") as file:
        if isinstance(error, _registry.Mistake):
            file.write(f"{error}\n")
        elif isinstance(error, SyntaxError):
            # As Python shows it, with the line and the place in it.
            shown = (error.filename or "").removeprefix(OWN)
            file.write("".join(traceback.format_exception_only(error)).replace(error.filename or "\0", shown))
        else:
            file.write(f"{_trace.describe(error)}\n")
    raise SystemError("the function's module can't be imported")


def _log_logging():
    import logging

    from .log import Handler as LogHandler

    logging._startTime = 0  # Nothing of the time it is built at is kept.
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(LogHandler())
        root.setLevel(logging.INFO)


def _modules():
    """All that can be imported later."""
    loader = _importer.Loader()
    if not build.DEVELOPED:
        loader.add_files(OWN.rstrip("/"), build.FILES)
    loader.add_files(PACKAGES, build.PACKAGES)
    loader.add_files(_importer.standard_library(), _standard_library.FILES)
    for name in sys.modules:
        loader.forget(name)
    return loader


_called = _prepare()
_received = None
"""Developed: the function's own files, which come with the first call."""


def _ready():
    global _called, _received
    if _called is None:
        if _received is None:
            _received = _receive()
        try:
            with _received.there():
                _called = _load()
        except BaseException:
            # The next call is told the same.
            _forget_own_modules()
            raise
        _trace.files_are_gone = True
    return _called


def _receive():
    texts = json.loads(zlib.decompress(base64.b64decode(os.environ.pop(SOURCE))))
    files = {path: text.encode("latin-1") for path, text in texts.items()}
    sources = {path: data for path, data in files.items() if path.endswith(".py")}
    loader = next(finder for finder in sys.meta_path if isinstance(finder, _importer.Loader))
    loader.add_sources(OWN.rstrip("/"), sources)
    for path, data in sources.items():
        source = data.decode("utf-8", "replace")
        linecache.cache[OWN + path] = (len(source), None, source.splitlines(keepends=True), OWN + path)
    return OwnFiles(OWN.rstrip("/"), files)


class Handler(getattr(exports, "Handler", object)):
    def handle(self, deliveries):
        try:
            run = _ready()
        except BaseException as error:
            return [_failure(error)] * len(deliveries)
        return [_answer(outcome) for outcome in run([_platform.received(delivery) for delivery in deliveries])]


def _answer(outcome):
    if isinstance(outcome, BaseException):
        return _failure(outcome)
    try:
        return Ok([_platform.draft(wire) for wire in outcome])
    except Exception as error:
        return _failure(error)


def _failure(error):
    from wit_world.exports.handler import Failure_Reject, Failure_Retry

    reason = _trace.describe(error).encode("utf-8", "replace").decode()
    if isinstance(error, Reject):
        return Err(Failure_Reject(reason))
    after = error.after if isinstance(error, Retry) else None
    return Err(Failure_Retry((reason, None if after is None else min(int(after * 1000), (1 << 63) - 1))))


class IncomingHandler(getattr(exports, "IncomingHandler", object)):
    def handle(self, request, response_out):
        try:
            answer = _ready()
            response = answer(_request(request))
            fields = _fields(response)
        except BaseException as error:
            response = failed(error)
            fields = _fields(response)
        outgoing = wasi.OutgoingResponse(fields)
        outgoing.set_status_code(response.status)
        body = outgoing.body()
        wasi.ResponseOutparam.set(response_out, Ok(outgoing))
        pieces = [response.body] if isinstance(response.body, bytes) else response.body
        try:
            _platform.write_body(body, pieces)
        except Err:
            pass  # The caller is gone; there is nobody left to tell.
        except BaseException as error:
            # Half of it is out. A body that is dropped without its proper end is broken off, so that the caller sees it.
            _host.host.log("error", _trace.describe(error), [])
            body.__exit__(None, None, None)


def _request(incoming):
    headers = _platform.header_pairs(incoming.headers())
    scheme = incoming.scheme()
    scheme = "https" if isinstance(scheme, wasi.Scheme_Https) else "http"
    url = f"{scheme}://{incoming.authority() or 'localhost'}{incoming.path_with_query() or '/'}"
    return Request(_platform.method_name(incoming.method()), url, headers, _platform.read_body(incoming.consume()))


def _fields(response):
    pairs = [(name, value.encode("latin-1")) for name, value in response.headers.pairs]
    if not 100 <= response.status <= 999:
        raise ValueError(f"the answer's status is {response.status}")
    has_body = response.status >= 200 and response.status not in (204, 304)
    if has_body and isinstance(response.body, bytes) and "content-length" not in response.headers:
        pairs.append(("content-length", str(len(response.body)).encode()))
    try:
        return wasi.Fields.from_list(pairs)
    except Err as error:
        raise ValueError(f"the answer has a header that it can't have: {_platform._error_text(error.value)}") from None


_platform.building = False
_rehearsal.rehearse(sys.modules[__name__])
random.seed(0)  # The first call seeds it anew.
_kept = _rehearsal.settle()
# Loading it says that the component is made: from here on memory is Python's own again.
_imp.create_dynamic(importlib.machinery.ModuleSpec("_reproducible", None, origin=f"{CACHE}_reproducible.abi3.so"))
