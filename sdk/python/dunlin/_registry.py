"""The one function of a module that the platform calls, registered by a decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Registered:
    """What a decorator was put on."""

    decorator: str
    function: Callable[..., Any]


found: list[Registered] = []


class Mistake(TypeError):
    """A function that is not what its decorator needs. Found when it is built, or at its first call in a test."""


def add(decorator: str, function: Callable[..., Any]) -> None:
    found.append(Registered(decorator, function))


def name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__
