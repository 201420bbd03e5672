"""What is done at build time, so that the first call in a sandbox is as fast as the ones after it.

Python becomes faster while it runs: it specializes the code it has run, and remembers where it has found an attribute. The memory
it has then is what is kept as the component. So what each call of a function runs is run a few times when it is built: the whole
way of a call through the SDK, with the platform's answers from a list and a function of ours in place of the function's own.
"""

# mypy: ignore-errors
from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import dataclass

import componentize_py_runtime as runtime
from componentize_py_types import Err, Ok
from wit_world.imports import poll, streams
from wit_world.imports import wasi_http_types as wasi

from ._event import Event
from ._handler import Handler
from ._http import Request, answerer
from ._registry import Registered

TIMES = 16
"""More than Python takes to specialize what it runs."""

failed: BaseException | None = None
"""Why there was none. A function is no worse without it."""


def rehearse(entry) -> None:
    """Runs what a call runs. `entry` is the module with the component's exports; what it calls is put back afterwards."""
    global failed
    called, call_import = entry._called, runtime.call_import
    runtime.call_import = _answer
    try:
        run = _events if entry.build.WORLD == "events" else _requests
        for _ in range(TIMES):
            run(entry)
    except Exception as error:
        failed = error
    finally:
        entry._called, runtime.call_import = called, call_import


@dataclass
class _Greeting:
    name: str
    number: int | None = None


def _requests(entry) -> None:
    def read(request: Request):
        assert request.params["name"] and request.query["a"]
        return {"read": request.json(_Greeting).name}

    def nothing(request: Request):
        return None

    for function in (read, nothing):
        entry._called = answerer(Registered("http", function))
        entry.IncomingHandler().handle(_resource(wasi.IncomingRequest), _resource(wasi.ResponseOutparam))


def _events(entry) -> None:
    from wit_world.exports.handler import Delivery
    from wit_world.imports.dunlin_function_types import Attribute_Text
    from wit_world.imports.dunlin_function_types import Event as Received

    def answer(event: Event[_Greeting]):
        return Event("rehearsed", {"name": event.data.name}, key=event.subject)

    extensions = [("key", Attribute_Text("1"))]
    received = Received("1", "/a", "b", "c", "2026-01-01T00:00:00Z", "application/json", None, extensions, _BODY)
    entry._called = Handler(answer).run
    for outcome in entry.Handler().handle([Delivery("topic", 1, 1, received)]):
        assert isinstance(outcome, Ok), outcome


_BODY = b'{"name": "a", "number": 1}'
_HEADERS = [
    ("host", b"localhost"),
    ("user-agent", b"rehearsal/1"),
    ("accept", b"*/*"),
    ("content-type", b"application/json"),
    ("dunlin-param-name", b"a%20b"),
]

_ANSWERS = {
    "IncomingRequest.headers": lambda: _resource(wasi.Fields),
    "IncomingRequest.scheme": lambda: wasi.Scheme_Http(),
    "IncomingRequest.authority": lambda: "localhost",
    "IncomingRequest.path_with_query": lambda: "/a/b?a=b",
    "IncomingRequest.method": lambda: wasi.Method_Get(),
    "IncomingRequest.consume": lambda: Ok(_resource(wasi.IncomingBody)),
    "IncomingBody.stream": lambda: Ok(_Input.begun()),
    "InputStream.blocking_read": lambda: _Input.read(),
    "Fields.entries": lambda: _HEADERS,
    "Fields.from_list": lambda: Ok(_resource(wasi.Fields)),
    "OutgoingResponse.__init__": lambda: _resource(wasi.OutgoingResponse),
    "OutgoingResponse.set_status_code": lambda: Ok(None),
    "OutgoingResponse.body": lambda: Ok(_resource(wasi.OutgoingBody)),
    "ResponseOutparam.set": lambda: None,
    "OutgoingBody.write": lambda: Ok(_resource(streams.OutputStream)),
    "OutgoingBody.finish": lambda: Ok(None),
    "OutputStream.subscribe": lambda: _resource(poll.Pollable),
    "OutputStream.check_write": lambda: Ok(4096),
    "OutputStream.write": lambda: Ok(None),
    "OutputStream.blocking_flush": lambda: Ok(None),
}
"""What the platform answers, by the function of the bindings that asks it."""


def _answer(index, params):
    return _ANSWERS[sys._getframe(1).f_code.co_qualname]()


class _Input:
    """A body of one piece."""

    left = False

    @classmethod
    def begun(cls):
        cls.left = True
        return _resource(streams.InputStream)

    @classmethod
    def read(cls):
        if not cls.left:
            return Err(streams.StreamError_Closed())
        cls.left = False
        return Ok(_BODY)


def _resource(kind):
    """Something of the platform's, as the bindings make it."""
    made = kind.__new__(kind)
    made.handle = 0
    made.finalizer = weakref.finalize(made, _dropped, 0, 0)
    return made


def _dropped(index, handle):
    pass


def settle():
    """Makes the memory one that calls write little of, since each page they write is copied in each sandbox. Answers with what is to
    be kept."""
    # What is there now stays. A collection would touch all of it, which is to say copy all of it.
    gc.collect()
    gc.freeze()
    # The gaps between it are taken, so that what a call allocates lies together.
    taken = [object() for _ in range(1000)]
    for size in range(_LARGEST, _SMALLEST - 1, -8):
        row = [None] * _ROW
        for _ in range(_MOST // (size * _ROW) + 1):
            # Nothing else is allocated in between.
            for place in range(_ROW):
                row[place] = bytes(size - _HEAD)
            if _together(row):
                break
            taken += row
        for place in reversed(range(_ROW)):
            row[place] = None
    return taken


_SMALLEST, _LARGEST = 20, 4100
"""Of what the allocator hands out, in steps of 8 bytes, for `bytes`. Larger gaps are pages of their own."""
_HEAD = 17
_ROW = 12
_MOST = 1 << 20
"""What is taken of one size."""


def _together(row) -> bool:
    """Whether they lie one behind the other: they came out of no gap, or out of one that is as good as none."""
    steps = {id(right) - id(left) for left, right in zip(row, row[1:])}
    return len(steps) == 1 and 0 < steps.pop() <= _LARGEST + 8
