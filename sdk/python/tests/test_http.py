"""Requests: what a function is given, what it answers with, and what callers are told."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import dunlin
from dunlin import FetchError, Problem, Reject, Request, Response, Retry, testing


@dataclass
class Order:
    items: list[int]


class Tests(testing.TestCase):
    def test_every_answer_counts(self):
        for answer, status, content_type, body in [
            ("text", 200, "text/plain; charset=utf-8", b"text"),
            (b"\xff", 200, None, b"\xff"),
            ({"a": 1}, 200, "application/json", b'{"a":1}'),
            (Order([1]), 200, "application/json", b'{"items":[1]}'),
            (None, 204, None, b""),
            (HTTPStatus.ACCEPTED, 202, None, b""),
            (("made", 201), 201, "text/plain; charset=utf-8", b"made"),
            (({"a": 1}, 201, {"Location": "/a"}), 201, "application/json", b'{"a":1}'),
            (Response("<p>", headers={"Content-Type": "text/html"}), 200, "text/html", b"<p>"),
            (Response(iter([b"a", b"b"])), 200, None, b"ab"),
        ]:
            with self.subTest(answer):
                response = testing.respond(lambda request: answer)
                self.assertEqual(
                    (response.status, response.headers.get("content-type"), response.read()), (status, content_type, body)
                )

    def test_a_request_is_taken_apart(self):
        request = Request(
            "GET", "https://shop.example/orders/J%C3%B6rg?limit=20&name=a+b&name=c", {"dunlin-param-id": "J%C3%B6rg", "X-A": "1"}
        )
        self.assertEqual((request.path, request.params, request.headers["x-a"]), ("/orders/J%C3%B6rg", {"id": "Jörg"}, "1"))
        self.assertEqual((request.query, request.query_list[2]), ({"limit": "20", "name": "a b"}, ("name", "c")))

    def test_errors_tell_the_caller_what_is_theirs(self):
        def fails(error: BaseException) -> Response:
            def function(request: Request) -> None:
                raise error

            return testing.respond(function)

        self.assertEqual(
            fails(Reject("`sku` is empty")).json(), {"status": 400, "title": "Bad Request", "detail": "`sku` is empty"}
        )
        self.assertEqual(fails(Problem(404, "no order 7")).json(), {"status": 404, "title": "Not Found", "detail": "no order 7"})
        self.assertEqual(testing.logged(), [])
        response = fails(ValueError("password hunter2 refused"))
        self.assertEqual(response.json(), {"status": 500, "title": "Internal Server Error"})
        self.assertEqual(response.headers["content-type"], "application/problem+json")
        self.assertTrue(testing.logged()[0].message.startswith("ValueError: password hunter2 refused\n"))
        response = fails(Retry("down", after=1.5))
        self.assertEqual((response.status, response.headers["retry-after"]), (503, "2"))
        self.assertEqual(fails(SystemExit(1)).status, 500)

    def test_bodies_are_read_as_types(self):
        def total(request: Request) -> int:
            return sum(request.json(Order).items)

        self.assertEqual(testing.respond(total, "POST", json=Order([1, 2])).json(), 3)
        wrong = testing.respond(total, "POST", json={"items": [1, "2"]})
        self.assertEqual(
            (wrong.status, wrong.json()["detail"]), (400, 'the body is wrong: items[1]: expected int, got the text "2"')
        )
        self.assertEqual(testing.respond(total, "POST", body="{}").status, 415)

    def test_other_servers_are_answered_by_the_test(self):
        with self.assertRaisesRegex(FetchError, "testing.answer"):
            dunlin.fetch("https://rates.example")
        testing.answer(
            lambda request: {"method": request.method, "body": request.text, "type": request.headers.get("content-type")}
        )
        response = dunlin.fetch("https://rates.example/eur", json={"a": 1})
        self.assertEqual(response.json(), {"method": "POST", "body": '{"a":1}', "type": "application/json"})
        self.assertEqual(dunlin.fetch("https://rates.example").json()["method"], "GET")
        testing.answer(lambda request: ("no", 502))
        with self.assertRaisesRegex(FetchError, "https://rates.example answered 502"):
            dunlin.fetch("https://rates.example").raise_for_status()


class WsgiTests(testing.TestCase):
    def test_any_application_answers(self):
        closed = []

        class Pieces:
            def __iter__(self):
                yield b"a"
                yield b"b"

            def close(self):
                closed.append(True)

        @dunlin.wsgi
        def app(environ, start_response):
            start_response("201 Created", [("Content-Type", "text/x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
            self.assertEqual(environ["PATH_INFO"], "/ö".encode().decode("latin-1"))
            self.assertEqual(
                (environ["QUERY_STRING"], environ["CONTENT_TYPE"], environ["HTTP_X_A"]), ("a=1", "application/json", "1")
            )
            self.assertEqual(environ["wsgi.input"].read(), b"7")
            return Pieces()

        response = testing.respond(app, "POST", "https://shop.example/%C3%B6?a=1", headers={"X-A": "1"}, json=7)
        self.assertEqual((response.status, response.read(), closed), (201, b"ab", [True]))
        self.assertEqual(response.headers.get_all("set-cookie"), ["a=1", "b=2"])

    def test_one_that_is_a_generator_and_one_that_fails(self):
        @dunlin.wsgi
        def late(environ, start_response):
            start_response("200 OK", [])
            yield b"late"

        @dunlin.wsgi
        def fails(environ, start_response):
            raise ValueError("no")

        self.assertEqual(testing.respond(late).read(), b"late")
        self.assertEqual(testing.respond(fails).status, 500)
