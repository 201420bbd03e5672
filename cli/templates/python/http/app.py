"""Answers `GET /{{name}}/{who}`."""

import dunlin
from dunlin import Problem, Request


@dunlin.http
def greet(request: Request) -> dict[str, str]:
    who = request.params["who"]
    if len(who) > 100:
        raise Problem(400, "that is a long name")
    return {"greeting": f"Hello, {who}!"}
