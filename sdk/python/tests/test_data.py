"""How JSON becomes a value of a declared type, and back."""

from __future__ import annotations

import datetime
import decimal
import enum
import unittest
import uuid
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar

from dunlin import DataError, _data

T = TypeVar("T")


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Item:
    sku: str
    price: int
    size: Size = Size.SMALL


@dataclass
class Order:
    items: list[Item]
    note: str | None = None
    tags: dict[str, int] = field(default_factory=dict)


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


@dataclass
class Page(Generic[T]):
    items: list[T]


@dataclass
class Positive:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("a value is not negative")


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    limit: int


class Tests(unittest.TestCase):
    def wrong(self, type_: Any, json: str) -> str:
        with self.assertRaises(DataError) as caught:
            _data.loads(type_, json)
        return str(caught.exception)

    def test_what_is_written_is_read_again(self):
        now = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
        for type_, value in [
            (Order, Order([Item("tea", 450, Size.LARGE)], "x", {"a": 1})),
            (Tree, Tree("a", [Tree("b"), Tree("c", [Tree("d")])])),
            (Page[Item], Page([Item("tea", 1)])),
            (Point, Point(1, 2)),
            (Optional[int], None),
            (int | str, "text"),
            (Literal["a", 1], 1),
            (tuple[int, str], (1, "a")),
            (tuple[int, ...], (1, 2, 3)),
            (set[int], {1, 2}),
            (dict[int, float], {1: 0.5}),
            (datetime.datetime, now),
            (datetime.date, now.date()),
            (decimal.Decimal, decimal.Decimal("1.10")),
            (uuid.UUID, uuid.UUID(int=7)),
            (bytes, b"\x00\xff"),
            (Any, {"a": [1, None, "ö"]}),
        ]:
            with self.subTest(type_):
                self.assertEqual(_data.loads(type_, _data.dumps(value)), value)
        self.assertEqual(_data.dumps({"a": "ö"}), '{"a":"ö"}'.encode())

    def test_what_is_wrong_is_told_with_its_place(self):
        for type_, json, reason in [
            (Order, '{"items":[{"sku":"a","price":"3"}]}', 'items[0].price: expected int, got the text "3"'),
            (Order, '{"items":[{"sku":"a","price":1},{"sku":"a"}]}', "items[1]: missing `price`"),
            (Order, "{}", "missing `items`"),
            (Order, '{"items":[],"tags":{"a":null}}', "tags.a: expected int, got null"),
            (Order, '{"items":[{"sku":"a","price":1,"size":"x"}]}', 'items[0].size: expected "s" or "l", got the text "x"'),
            (Order, "[]", "expected Order, got a list"),
            (Tree, '{"name":"a","children":[{"name":"b","children":[7]}]}', "children[0].children[0]: expected Tree"),
            (Page[int], '{"items":[true]}', "items[0]: expected int, got true"),
            (Positive, '{"value":-1}', "a value is not negative"),
            (int | None, '"x"', 'expected int, got the text "x"'),
            (int | str, "[]", "expected int | str, got a list"),
            (int, "1.5", "expected int, got the number 1.5"),
            (float, "NaN", "expected float, got the number nan"),
            (Options, '{"limit":"x"}', "limit: expected int"),
            (tuple[int, str], "[1]", "expected 2 values, got 1"),
            (datetime.datetime, '"soon"', 'expected datetime, got the text "soon"'),
            (Any, "{", "it is not JSON"),
        ]:
            with self.subTest(json=json):
                self.assertIn(reason, self.wrong(type_, json))

    def test_more_than_is_declared_is_left_out_and_kept_by_a_typed_dict(self):
        self.assertEqual(_data.loads(Item, '{"sku":"a","price":1,"more":2}'), Item("a", 1))
        self.assertEqual(_data.loads(Options, '{"limit":1,"more":2}'), {"limit": 1, "more": 2})
        self.assertEqual(_data.loads(float, "1"), 1.0)
        self.assertEqual(_data.loads(Point, '{"x":1}'), Point(1))

    def test_what_is_nested_too_deeply_never_reaches_the_parser(self):
        self.assertEqual(self.wrong(Any, "[" * 100_000 + "]" * 100_000), "it is nested too deeply")
        self.assertEqual(self.wrong(Any, '{"a":' * 100_000), "it is nested too deeply")
        flat = "[" + ",".join(['"[[{{"'] * 5000) + "]"
        self.assertEqual(len(_data.loads(list[str], flat)), 5000)

    def test_what_json_has_not_is_refused(self):
        for value, reason in [
            (object(), "`object` can't be written as JSON"),
            (float("nan"), "not JSON compliant"),
            ("\ud800", "a character that is none"),
        ]:
            with self.assertRaisesRegex(DataError, reason):
                _data.dumps(value)

    def test_a_type_that_json_can_not_be_read_as(self):
        for type_ in (unittest.TestCase, list[type], "Nowhere"):
            with self.assertRaises(_data.Unreadable):
                _data.reader(type_)
