"""Functions for Dunlin, in Python.

    from dataclasses import dataclass
    import dunlin
    from dunlin import Event, Reject

    @dataclass
    class Order:
        id: str
        total: int

    @dunlin.handler
    def on_order(event: Event[Order]) -> Event:
        if event.data.total == 0:
            raise Reject("there is nothing to pay")
        return Event("order.paid", {"order": event.data.id, "amount": event.data.total}, key=event.data.id)

A function is an ordinary module with one of `handler`, `http` and `wsgi` in it. Natively it runs on a platform in memory
(`dunlin.testing`), so `python -m unittest` runs what will be deployed.
"""

from . import config, log, state
from ._errors import ConfigError, DataError, FetchError, Problem, PublishError, Reject, Retry, StateError
from ._event import Attribute, Event
from ._handler import handler
from ._http import FetchResponse, Headers, Request, Response, fetch, http, wsgi
from ._publish import publish

__version__ = "0.1.0"

__all__ = [
    "Attribute", "ConfigError", "DataError", "Event", "FetchError", "FetchResponse", "Headers", "Problem", "PublishError",
    "Reject", "Request", "Response", "Retry", "StateError", "config", "fetch", "handler", "http", "log", "publish", "state",
    "wsgi",
]  # fmt: skip
