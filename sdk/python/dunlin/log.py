"""Log lines with a level and fields, as `dunlin logs` shows them.

    from dunlin import log

    log.info("charged", order="7", total=1290)

What is printed is logged as well, and so is what goes through Python's own `logging`.
"""

from __future__ import annotations

import logging
from typing import Any

from . import _host

__all__ = ["Handler", "debug", "error", "info", "trace", "warn", "warning"]


def trace(message: object, /, **fields: Any) -> None:
    """Logs every step."""
    _write("trace", message, fields)


def debug(message: object, /, **fields: Any) -> None:
    """Logs what helps to find a fault."""
    _write("debug", message, fields)


def info(message: object, /, **fields: Any) -> None:
    """Logs what happened."""
    _write("info", message, fields)


def warn(message: object, /, **fields: Any) -> None:
    """Logs what could become a problem."""
    _write("warn", message, fields)


warning = warn


def error(message: object, /, **fields: Any) -> None:
    """Logs what went wrong."""
    _write("error", message, fields)


def _write(level: str, message: object, fields: dict[str, Any]) -> None:
    _host.host.log(level, str(message), [(name, str(value)) for name, value in fields.items()])


class Handler(logging.Handler):
    """Hands what goes through `logging` to the platform, with the logger's name as a field. In a component the root logger has
    one, from `INFO` on."""

    def emit(self, record: logging.LogRecord) -> None:
        names = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"))
        level = next((name for number, name in names if record.levelno >= number), "trace")
        try:
            message = self.format(record)
        except Exception as wrong:
            message = f"{record.msg} (which can't be formatted: {wrong})"
        _host.host.log(level, message, [] if record.name == "root" else [("logger", record.name)])
