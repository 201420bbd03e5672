"""What a function raises when it did not do what it was to do."""

from __future__ import annotations

from datetime import timedelta


class Reject(Exception):
    """It will never work: the event itself is wrong, and goes to the dead letters at once.

    For a request it is a 400 with its text.

        raise Reject("there is nothing to pay")
    """


class Retry(Exception):
    """It may work another time, as any other exception says too. This one can say when.

        raise Retry("the bank is closed", after=3600)

    `after` is in seconds, or a `timedelta`. Left out, the manifest's `retry.backoff` decides. For a request it is a 500, or a
    503 with `Retry-After`, of which the caller learns nothing more.
    """

    after: float | None

    def __init__(self, *args: object, after: float | timedelta | None = None) -> None:
        super().__init__(*args)
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise ValueError(f"`after` is a number of seconds, not {seconds}")
        self.after = seconds


class Problem(Exception):
    """An answer to a request that says what went wrong, as `application/problem+json` (RFC 9457).

    raise Problem(404, "there is no order 7")
    """

    status: int
    detail: str | None

    def __init__(self, status: int, detail: str | None = None) -> None:
        super().__init__(detail or str(status))
        self.status = status
        self.detail = detail


class DataError(ValueError):
    """A value can't be read as a type, or written as JSON. The text says where: `items[0].price: …`."""


class PublishError(Exception):
    """Events were not published."""


class StateError(Exception):
    """State was not read or changed. `denied` tells whether the manifest doesn't allow it."""

    denied: bool

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class ConfigError(Exception):
    """A variable is not set, or is not what it should be."""


class FetchError(OSError):
    """A request to another server got no answer."""
