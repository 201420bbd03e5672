"""State, publishing, logs, configuration: as on the platform in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import dunlin
from dunlin import ConfigError, Event, PublishError, StateError, config, log, state, testing


@dataclass
class Cart:
    items: list[str]


class StateTests(testing.TestCase):
    def test_values_are_json_or_bytes(self):
        state.set("cart", Cart(["tea"]))
        self.assertEqual(state.get("cart"), {"items": ["tea"]})
        self.assertEqual(state.get("cart", type=Cart), Cart(["tea"]))
        self.assertEqual((state.get("none"), state.get("none", 3)), (None, 3))
        state.set_bytes("raw", b"\xff")
        self.assertEqual(state.get_bytes("raw"), b"\xff")
        self.assertTrue(state.exists("raw"))
        state.delete("raw")
        state.delete("raw")
        self.assertFalse(state.exists("raw"))
        with self.assertRaisesRegex(StateError, "`cart` holds no `int`: expected int, got an object"):
            state.get("cart", type=int)

    def test_several_at_once(self):
        state.set_many({"a": 1, "b": 2})
        self.assertEqual(state.get_many(["a", "c", "b"]), {"a": 1, "b": 2})
        with self.assertRaises(StateError):
            state.set_many({"a": 9, "": 9})
        state.delete_many(["a", "c"])
        self.assertEqual(testing.state(), {"b": 2})

    def test_buckets_are_apart_and_have_any_number_of_keys(self):
        carts = state.bucket("carts")
        for index in range(25):
            carts.set(f"{index:02}", index)
        self.assertEqual(list(carts.keys()), [f"{index:02}" for index in range(25)])
        self.assertEqual(list(state.keys()), [])
        self.assertEqual(len(testing.state("carts")), 25)

    def test_counting(self):
        self.assertEqual((state.increment("n"), state.increment("n", 5), state.get("n")), (1, 6, 6))
        state.set("text", "x")
        with self.assertRaisesRegex(StateError, "the function's state: `text` holds no number"):
            state.increment("text")
        state.set("n", (1 << 63) - 1)
        with self.assertRaisesRegex(StateError, "64 bits"):
            state.increment("n")

    def test_update_tries_again_when_somebody_was_faster(self):
        seen = []

        def add(names):
            seen.append(list(names))
            if len(seen) == 1:
                state.set("names", ["other"])
            return [*names, "ada"]

        self.assertEqual(state.update("names", add, default=[]), ["other", "ada"])
        self.assertEqual(seen, [[], ["other"]])
        with self.assertRaises(ZeroDivisionError):
            state.update("names", lambda names: 1 / 0)
        self.assertEqual(state.get("names"), ["other", "ada"])

    def test_keys_and_values_that_can_not_be(self):
        for key, reason in [("", "is empty"), ("a" * 1025, "1025 bytes"), ("a\nb", r"`a\\nb` has some"), ("\x85", "has some")]:
            with self.assertRaisesRegex(StateError, reason):
                state.set(key, 1)
        with self.assertRaisesRegex(TypeError, "a key is text, not a `int`"):
            state.get(7)  # type: ignore[call-overload]
        with self.assertRaisesRegex(StateError, "a value has up to 1048576 bytes"):
            state.set("a", "x" * (1 << 20))
        state.set("a", "x" * ((1 << 20) - 2))


class Tests(testing.TestCase):
    def test_published_events_are_seen_by_topic(self):
        dunlin.publish("mail", Event("mail.wanted", Cart(["tea"])), Event("b"))
        dunlin.publish("a.b", Event("c"))
        self.assertEqual([event.type for event in testing.published("mail")], ["mail.wanted", "b"])
        self.assertEqual([event.topic for event in testing.published()], ["mail", "mail", "a.b"])
        self.assertEqual(testing.published("mail")[0].data, {"items": ["tea"]})

    def test_what_the_platform_would_refuse_is_refused(self):
        for topic, event, reason in [
            ("Mail", Event("a"), "failed to publish to `Mail`: it is not a topic name"),
            ("a..b", Event("a"), "not a topic name"),
            ("mail", Event(""), "`type` is empty"),
            ("mail", Event("a", subject=""), "`subject` is empty"),
            ("mail", Event("a", extensions={"source": "x"}), "`source` is no extension"),
            ("mail", Event("a", extensions={"my-name": "x"}), "`my-name` is not the name of an attribute"),
            ("mail", Event("a", extensions={"n": 1 << 31}), "`n` does not fit 32 bits"),
            ("mail", Event("a", extensions={"n": 1.5}), "`n` is a `float`"),  # type: ignore[dict-item]
            ("mail", Event("a", object()), "`object` can't be written as JSON"),
        ]:
            with self.subTest(reason), self.assertRaisesRegex(PublishError, reason):
                dunlin.publish(topic, Event("fine"), event)
        self.assertEqual(testing.published(), [])
        with self.assertRaisesRegex(PublishError, "not the name of an attribute"):
            testing.deliver(lambda event: Event("a", extensions={"A": "x"}), testing.event("a"))

    def test_lines_have_a_level_and_fields(self):
        log.info("charged", order="7", total=1290)
        log.warn("slow")
        self.assertEqual(testing.logged()[0], testing.LogLine("info", "charged", {"order": "7", "total": "1290"}))
        self.assertEqual(testing.logged()[1].level, "warn")

    def test_pythons_logging_goes_there_too(self):
        logger, handler = logging.getLogger("shop"), log.Handler()
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        logger.critical("out of %s", "tea")
        self.assertEqual(testing.logged(), [testing.LogLine("error", "out of tea", {"logger": "shop"})])

    def test_configuration(self):
        testing.env("LIMIT", "5000")
        testing.env("ON", "true")
        testing.env("KEY", "hunter2")
        self.assertEqual((config.get("LIMIT"), config.get("LIMIT", type=int), config.get("ON", type=bool)), ("5000", 5000, True))
        self.assertEqual((config.get("NONE", None), config.get("NONE", 7, type=int)), (None, 7))
        with self.assertRaisesRegex(ConfigError, "`NONE` is not set: name it in the manifest's `allow.env` or `allow.secrets`"):
            config.get("NONE")
        with self.assertRaises(ConfigError) as caught:
            config.get("KEY", type=int)
        self.assertEqual(str(caught.exception), "`KEY` is no `int`")
        self.assertTrue(caught.exception.__suppress_context__, "the value may be a secret")
