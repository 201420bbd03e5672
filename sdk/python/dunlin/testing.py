"""For tests: a platform in memory.

    import unittest
    from dunlin import Reject, testing
    from app import on_order

    class Tests(testing.TestCase):
        def test_an_order_is_paid(self):
            paid = on_order(testing.event("order.created", Order("7", 1290)))    # called as it is
            self.assertEqual(paid.key, "7")

        def test_nonsense_is_rejected(self):
            with self.assertRaises(Reject):                                      # or as the platform does it
                testing.deliver(on_order, testing.event("order.created", "nonsense"))

There is one platform for the process; `TestCase` empties it before each test, as `reset` does.
"""

from __future__ import annotations

import json
import unittest
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, Union

from . import _memory, _registry
from ._event import Event, Wire, received, written
from ._handler import Handler
from ._http import Answer, Headers, Pairs, Request, Response, answerer

__all__ = [
    "LogLine", "Outcome", "TestCase", "answer", "deliver", "deliver_all", "env", "event", "logged", "published", "reset",
    "respond", "state",
]  # fmt: skip

T = TypeVar("T")
Outcome = Union["list[Event[Any]]", BaseException]
"""What became of one event: the events it led to, or why it was not taken."""


class TestCase(unittest.TestCase):
    """A test that begins with an empty platform."""

    def setUp(self) -> None:
        super().setUp()
        reset()


@dataclass
class LogLine:
    """A line that was logged with `dunlin.log`."""

    level: str
    message: str
    fields: dict[str, str]


def reset() -> None:
    """Forgets everything: events, state, log lines, variables."""
    _memory.reset()


def event(
    type: str,
    data: T = None,  # type: ignore[assignment]
    *,
    topic: str = "test",
    offset: int | None = None,
    attempt: int = 1,
    **attributes: Any,
) -> Event[T]:
    """An event as a handler gets it: the first attempt, at the next offset of the topic `test`."""
    made = _memory.contents.made
    _memory.contents.made += 1
    attributes = {"id": f"test-{made}", "source": "/testing", "time": "2026-01-31T12:00:00Z", **attributes}
    event = Event(type, data, **attributes)
    event.topic, event.offset, event.attempt = topic, made if offset is None else offset, attempt
    return event


def deliver(handler: Callable[..., Any], event: Event[Any]) -> list[Event[Any]]:
    """Hands an event to a handler as the platform does: its data is written out and read again, and nothing is published or kept
    if it isn't taken. Answers with the events it returned, or raises what the handler raised."""
    before = _memory.snapshot()
    [outcome] = deliver_all(handler, [event])
    if isinstance(outcome, BaseException):
        _memory.restore(before)
        raise outcome
    return outcome


def deliver_all(handler: Callable[..., Any], events: Iterable[Event[Any]]) -> list[Outcome]:
    """Hands several events to a handler in one call, and answers for each with the events it returned, or with the exception."""
    outcomes: list[Outcome] = []
    for outcome in Handler(handler).run([written(event) for event in events]):
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            for wire in outcome:
                _memory.check(wire)
            outcomes.append([_shown(wire) for wire in outcome])
        except BaseException as error:
            outcomes.append(error)
    return outcomes


def published(topic: str | None = None) -> list[Event[Any]]:
    """What was published, in order, to one topic or to all: `topic` of each says which. What a handler returns is not among it."""
    return [_shown(wire, found) for found, wire in _memory.contents.published if topic in (None, found)]


def state(bucket: str = "default") -> dict[str, Any]:
    """What is in the function's own bucket, or in a shared one. Values that aren't JSON are bytes."""
    return {key: _value(value) for key, value in sorted(_memory.contents.buckets.get(bucket, {}).items())}


def logged() -> list[LogLine]:
    """What was logged with `dunlin.log`, in order."""
    return [LogLine(level, message, dict(fields)) for level, message, fields in _memory.contents.logged]


def env(name: str, value: str) -> None:
    """Sets a variable or secret, for `dunlin.config`."""
    _memory.contents.variables[name] = value


def answer(server: Callable[[Request], Any]) -> None:
    """Says what answers `dunlin.fetch`: a function like the one that is put under `@dunlin.http`."""
    answer_ = answerer(_registry.Registered("http", server))

    def run(method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        response = answer_(Request(method, url, headers, body))
        return response.status, response.headers.pairs, response.read()

    _memory.contents.answerer = run


def respond(
    function: Callable[..., Any],
    method: str = "GET",
    url: str = "/",
    *,
    params: dict[str, str] | None = None,
    headers: Pairs = (),
    body: bytes | str = b"",
    json: Any = None,
) -> Response:
    """Has a request answered as the platform does: errors become answers. `function` is one that is put under `@dunlin.http`, or
    a WSGI application that was given to `dunlin.wsgi`. `params` are the parameters of the path."""
    from urllib.parse import quote

    from ._data import dumps

    sent = Headers(headers)
    sent.pairs += [(f"dunlin-param-{name.lower()}", quote(value, safe="")) for name, value in (params or {}).items()]
    if json is not None:
        body = dumps(json)
        sent.pairs.append(("content-type", "application/json"))
    is_wsgi = any(found.function is function and found.decorator == "wsgi" for found in _registry.found)
    run: Answer = answerer(_registry.Registered("wsgi" if is_wsgi else "http", function))
    response = run(Request(method, url, sent, body.encode() if isinstance(body, str) else body))
    response.read()
    return response


def _shown(wire: Wire, topic: str | None = None) -> Event[Any]:
    event = received(wire)
    event.topic = topic
    return event


def _value(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
