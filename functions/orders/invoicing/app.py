"""Writes the invoices: `invoice.issued` for each `order.paid`, with a number that follows the one before without a gap.

Numbering is where systems lose numbers or use one twice. Here the counter and the event are one commit: a run that
fails, or is repeated after a crash, leaves no gap.
"""

from dataclasses import dataclass
from datetime import datetime, timezone

import dunlin
from dunlin import Event, log, state


@dataclass
class Paid:
    order: str
    amount: int
    """In cents."""


@dataclass
class Invoice:
    invoice: str
    order: str
    amount: int


@dunlin.handler
def issue(event: Event[Paid]) -> Event[Invoice]:
    paid = event.data
    # The year the order was paid in, not the one this happens to run in.
    year = (event.time or datetime.now(timezone.utc).isoformat())[:4]
    number = f"{year}-{state.increment(year):06}"
    log.info("issued", invoice=number, order=paid.order)
    return Event("invoice.issued", Invoice(number, paid.order, paid.amount), key=paid.order, subject=paid.order)
