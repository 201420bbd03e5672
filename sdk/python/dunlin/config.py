"""Configuration: the variables the manifest names in `allow.env`, and the secrets it names in `allow.secrets`.

    from dunlin import config

    key = config.get("STRIPE_KEY")
    limit = config.get("CHARGE_LIMIT", 100_000, type=int)

Both are environment variables, so `os.environ` has them too, while the function runs. What this adds: the value as the type it
is meant to be, an error that names the variable, and values a test can set (`testing.env`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from . import _host
from ._errors import ConfigError

__all__ = ["ConfigError", "get"]

T = TypeVar("T")
D = TypeVar("D")
_REQUIRED: Any = object()
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


@overload
def get(name: str) -> str: ...
@overload
def get(name: str, default: D) -> str | D: ...
@overload
def get(name: str, *, type: Callable[[str], T]) -> T: ...
@overload
def get(name: str, default: D, *, type: Callable[[str], T]) -> T | D: ...
def get(name: str, default: Any = _REQUIRED, *, type: Any = str) -> Any:
    """A variable. Without a default it has to be there. `type` reads it: `int`, `float`, `bool`, `json.loads`."""
    value = _host.host.variable(name)
    if value is None:
        if default is _REQUIRED:
            raise ConfigError(f"`{name}` is not set: name it in the manifest's `allow.env` or `allow.secrets`")
        return default
    # The value stays out of the error: it may be a secret.
    try:
        return _BOOLEANS[value.strip().lower()] if type is bool else type(value)
    except (ValueError, TypeError, KeyError, ArithmeticError):
        raise ConfigError(f"`{name}` is no `{getattr(type, '__name__', type)}`") from None
