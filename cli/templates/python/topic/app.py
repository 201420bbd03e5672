"""Counts the events of each type, and tells how many there were."""

from dataclasses import dataclass

import dunlin
from dunlin import Event, log, state


@dataclass
class Counted:
    kind: str
    count: int


@dunlin.handler
def on_event(event: Event) -> Event[Counted]:
    count = state.increment(event.type)
    log.info("counted", kind=event.type, count=count)
    return Event("event.counted", Counted(event.type, count))
