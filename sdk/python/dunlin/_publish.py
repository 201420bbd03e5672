"""Publishing events while a function runs, beside those a handler returns."""

from __future__ import annotations

from typing import Any

from . import _host
from ._errors import DataError, PublishError
from ._event import Event, check_text, written


def publish(topic: str, *events: Event[Any]) -> None:
    """Publishes events to a topic, which the manifest names in `allow.publish` or `publish`: all of them or, with an error, none.

        publish("mail", Event("mail.wanted", {"to": "ada"}))

    In a handler of events they are published when it has succeeded, together with what it returns and with its writes of state;
    if it fails, they never were. In a handler of requests they are on disk when this returns.
    """
    check_text("a topic", topic)
    try:
        _host.host.publish(topic, [written(event) for event in events])
    except (PublishError, DataError) as error:
        raise PublishError(f"failed to publish to `{topic}`: {error}") from None
