"""Handlers: what they take and answer with, and what becomes of an event."""

from __future__ import annotations

import pathlib
import sys
import types
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, cast

import dunlin
from dunlin import Event, Reject, Retry, _trace, testing
from dunlin._handler import Handler
from dunlin._registry import Mistake


@dataclass
class Order:
    id: str
    total: int


def number(event: Event[int]) -> Event[int]:
    return Event("next", event.data + 1, key=event.key)


class Tests(testing.TestCase):
    def deliver(self, handler: Any, data: Any = 7, **attributes: Any) -> list[Any]:
        return [event.data for event in testing.deliver(handler, testing.event("test", data, **attributes))]

    def test_every_answer_counts(self):
        def generated(event: Event[int]) -> Iterator[Event[int]]:
            yield event
            yield number(event)

        for handler, answer in [
            (lambda event: None, []),
            (number, [8]),
            (lambda event: [number(event), None, Event("text", "a")], [8, "a"]),
            (lambda event: (event, Event("b", b"\xff")), [7, b"\xff"]),
            (generated, [7, 8]),
            (lambda event: [], []),
        ]:
            self.assertEqual(self.deliver(handler), answer)
        with self.assertRaisesRegex(TypeError, "not with a `dict`"):
            self.deliver(lambda event: {"a": 1})
        with self.assertRaisesRegex(TypeError, "expected an `Event`, got a `int`"):
            self.deliver(lambda event: [1])

    def test_data_is_what_its_content_type_says(self):
        def whole(event: Event[Any]) -> Event[Any]:
            return Event("is", repr(event.data))

        def text(event: Event[str]) -> Event[str]:
            return event

        def raw(event: Event[bytes]) -> Event[bytes]:
            return Event("raw", event.data)

        self.assertEqual(self.deliver(whole, {"a": 1}), ["{'a': 1}"])
        self.assertEqual(self.deliver(whole, b"\xff"), [r"b'\xff'"])
        self.assertEqual(self.deliver(whole, "a,b", datacontenttype="text/csv"), ["'a,b'"])
        self.assertEqual(self.deliver(whole, None), ["None"])
        self.assertEqual(self.deliver(text, "a"), ["a"])
        self.assertEqual(self.deliver(text, "<a/>", datacontenttype="application/xml"), [b"<a/>"])
        self.assertEqual(self.deliver(raw, {"a": 1}), [b'{"a":1}'])
        with self.assertRaisesRegex(TypeError, "an event's `subject` is text, not a `int`"):
            testing.deliver(lambda event: Event("a", subject=7), testing.event("a"))  # type: ignore[arg-type]
        with self.assertRaisesRegex(dunlin.DataError, "`text/csv` is made of `str` or `bytes`, not of a `int`"):
            self.deliver(lambda event: Event("a", 7, datacontenttype="text/csv"))

    def test_what_can_not_be_read_is_rejected_and_the_handler_not_called(self):
        def on_order(event: Event[Order]) -> None:
            self.fail("it was called")

        for data, reason in [
            ({"id": "7", "total": "x"}, 'is no `Order`: total: expected int, got the text "x"'),
            (None, "is no `Order`: there is none"),
            (b"{}", "its content type is `application/octet-stream`"),
        ]:
            with self.assertRaisesRegex(Reject, reason):
                self.deliver(on_order, data)

    def test_several_events_have_an_answer_each(self):
        def one(event: Event[int]) -> Event[int]:
            if event.data == 2:
                raise Reject("two")
            return number(event)

        def batch(events: list[Event[int]]) -> list[Any]:
            return [Reject("two") if event.data == 2 else number(event) for event in events]

        for handler in (one, batch):
            outcomes = testing.deliver_all(handler, [testing.event("n", data) for data in (1, "x", 2, 3)])
            self.assertEqual([type(outcome) for outcome in outcomes], [list, Reject, Reject, list])
            self.assertEqual([outcome[0].data for outcome in outcomes if isinstance(outcome, list)], [2, 4])

    def test_a_batch_that_is_not_answered_event_by_event(self):
        events = [testing.event("n", data) for data in (1, 2)]

        def none(events: list[Event[int]]) -> None: ...

        def few(events: list[Event[int]]) -> list[Event[int]]:
            return events[:1]

        def fails(events: list[Event[int]]) -> None:
            raise Retry("down")

        self.assertEqual(testing.deliver_all(none, events), [[], []])
        self.assertEqual([str(o) for o in testing.deliver_all(few, events)], ["the function answered 1 times to 2 events"] * 2)
        self.assertEqual([str(o) for o in testing.deliver_all(fails, events)], ["down"] * 2)

    def test_what_is_not_taken_leaves_nothing(self):
        def half(event: Event[int]) -> None:
            dunlin.state.set("a", 1)
            dunlin.publish("other", Event("b"))
            raise KeyError("total")

        with self.assertRaises(KeyError):
            self.deliver(half)
        self.assertEqual((testing.state(), testing.published()), ({}, []))

    def test_a_function_that_is_no_handler(self):
        async def asynchronous(event: Event[Any]) -> None: ...
        def none() -> None: ...
        def order(order: Order) -> None: ...
        def unreadable(event: Event[testing.TestCase]) -> None: ...
        def undefined(event: Event[Nowhere]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        for function, reason in [
            (asynchronous, "is `async`"),
            (none, "takes 0 arguments"),
            (order, "takes `order: Order`: a handler takes `event: Event\\[Order\\]`"),
            (unreadable, "can't be read as `TestCase`"),
            (undefined, "'Nowhere' is not defined"),
        ]:
            with self.assertRaisesRegex(Mistake, reason):
                Handler(cast(Any, function))

    def test_the_reason_has_the_functions_own_stack(self):
        def fails() -> None:
            raise KeyError("total")

        def handler(event: Event[int]) -> None:
            try:
                fails()
            except KeyError as error:
                raise ValueError("no total") from error

        [outcome] = testing.deliver_all(handler, [testing.event("n", 1)])
        reason = _trace.describe(outcome)  # type: ignore[arg-type]
        lines = reason.splitlines()
        self.assertEqual(lines[0], "ValueError: no total")
        self.assertIn("raise ValueError", lines[2])
        self.assertIn("caused by KeyError: 'total'", lines)
        self.assertNotIn("dunlin/_handler.py", reason)
        self.assertEqual(_trace.message_of(Reject("never")), "never")

        def again() -> None:
            again()

        try:
            again()
        except RecursionError as error:
            self.assertRegex(_trace.describe(error), r"… and \d+ times more")


class EventTests(testing.TestCase):
    def test_a_new_event_needs_type_and_data_only(self):
        event = Event("order.paid", {"a": 1})
        self.assertEqual((event.id, event.source, event.time, event.key, event.attempt), (None,) * 5)
        self.assertEqual(repr(Event("a", 1, key="7")), "Event('a', 1, extensions={'partitionkey': '7'})")

    def test_a_received_event_has_it_all(self):
        event = testing.event("a", 1, key="7", topic="orders", extensions={"currency": "EUR", "n": 1, "b": True})
        [same] = testing.deliver(lambda event: event, event)
        self.assertEqual((same.key, same.extensions["n"], same.extensions["b"], same.id), ("7", 1, True, "test-0"))
        self.assertEqual((event.topic, event.offset, event.attempt), ("orders", 0, 1))

    def test_replace_leaves_the_other_as_it_was(self):
        event = testing.event("a", 1, key="7")
        other = event.replace(type="b", key="8")
        self.assertEqual((event.type, event.key, other.type, other.key, other.id), ("a", "7", "b", "8", event.id))
        with self.assertRaisesRegex(TypeError, "an event has no `kind`"):
            event.replace(kind="b")

    def test_times_are_rfc_3339(self):
        self.assertEqual(Event("a", time=datetime(2026, 1, 31, tzinfo=timezone.utc)).time, "2026-01-31T00:00:00Z")
        with self.assertRaisesRegex(ValueError, "without a zone"):
            Event("a", time=datetime(2026, 1, 31))

    def test_retry_has_a_time(self):
        self.assertEqual((Retry("a", after=1.5).after, Retry("a", after=timedelta(minutes=1)).after), (1.5, 60))
        with self.assertRaises(ValueError):
            Retry("a", after=-1)


class ReadmeTests(testing.TestCase):
    def test_its_examples_run(self):
        readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
        blocks = [block.split("```")[0] for block in readme.split("```python\n")[1:]]
        self.assertGreater(len(blocks), 3)
        for block in blocks:
            with self.subTest(block):
                testing.reset()
                # A module, since a dataclass looks for the one it is in.
                module = sys.modules["readme"] = types.ModuleType("readme")
                exec(compile(block, "README.md", "exec", dont_inherit=True), module.__dict__)
                suite = unittest.defaultTestLoader.loadTestsFromModule(module)
                self.assertTrue(suite.run(unittest.TestResult()).wasSuccessful())
