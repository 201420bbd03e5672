"""Between a handler, whose types are its own, and the platform, which hands over bytes and takes outcomes."""

from __future__ import annotations

import inspect
import typing
from collections import abc
from collections.abc import Callable
from typing import Any, TypeVar, Union

from . import _data, _registry
from ._event import Event, Wire, received, written
from ._registry import Mistake, name_of

F = TypeVar("F", bound=Callable[..., Any])

Outcome = Union["list[Wire]", BaseException]
"""What became of one event: the events it led to, or why it was not taken."""

_LISTS = (list, abc.Sequence, abc.Iterable, abc.Collection)


def handler(function: F) -> F:
    """Makes a function the one that handles the component's events.

        @dunlin.handler
        def on_order(event: Event[Order]) -> Event[Payment]: ...

    It takes one `Event`, or a `list[Event[…]]` where the manifest's trigger has a `batch`, and answers with nothing, an `Event`,
    or several. For a batch it answers with nothing, or with a list that has for each event what a handler of one can answer
    with, or an exception for one that was not taken.

    An event whose data can't be read as the declared type is rejected without calling it. An exception is a retry, a `Reject`
    is final. The function stays what it is: a test calls it.
    """
    if not callable(function):
        raise Mistake("`@dunlin.handler` is put on a function")
    _registry.add("handler", function)
    return function


class Handler:
    """A handler with what its annotations say."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        name = name_of(function)
        if inspect.iscoroutinefunction(function):
            raise Mistake(f"`{name}` is `async`: a handler is a plain function")
        parameters = list(inspect.signature(function).parameters.values())
        needed = [p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(needed) != 1:
            raise Mistake(f"`{name}` takes {len(needed)} arguments: a handler takes one, `event: Event[…]`")
        try:
            annotation = typing.get_type_hints(function, include_extras=True).get(needed[0].name, Event)
        except NameError as error:
            raise Mistake(f"an annotation of `{name}` is not defined: {error}") from None
        self.batch = typing.get_origin(annotation) in _LISTS
        if self.batch:
            annotation = typing.get_args(annotation)[0]
        if annotation in (Any, Event):
            self.type: Any = Any
        elif typing.get_origin(annotation) is Event:
            self.type = typing.get_args(annotation)[0]
        else:
            what, parameter = _data.name_of(annotation), needed[0].name
            raise Mistake(f"`{name}` takes `{parameter}: {what}`: a handler takes `event: Event[{what}]`, or a list of them")
        try:
            _data.reader(self.type)
        except _data.Unreadable as error:
            raise Mistake(f"`{name}` takes an `Event[{_data.name_of(self.type)}]`: {error}") from None

    def run(self, events: list[Wire]) -> list[Outcome]:
        """Handles events, with an outcome for each."""
        return self._run_batch(events) if self.batch else [self._run_one(event) for event in events]

    def _run_one(self, event: Wire) -> Outcome:
        try:
            return _returned(self.function(received(event, self.type)))
        # `SystemExit` too: it is this event that failed, and not the next ones.
        except BaseException as error:
            return error

    def _run_batch(self, events: list[Wire]) -> list[Outcome]:
        outcomes: list[Outcome | None] = []
        readable = []
        for event in events:
            try:
                readable.append(received(event, self.type))
                outcomes.append(None)
            except BaseException as error:
                outcomes.append(error)
        answers = iter(self._answers(readable) if readable else [])
        return [next(answers) if outcome is None else outcome for outcome in outcomes]

    def _answers(self, events: list[Event[Any]]) -> list[Outcome]:
        try:
            answer = self.function(list(events))
            if inspect.isgenerator(answer):
                answer = list(answer)
        except BaseException as error:
            return [error] * len(events)
        if answer is None:
            return [[] for _ in events]
        if not isinstance(answer, (list, tuple)) or len(answer) != len(events):
            what = f"{len(answer)} times" if isinstance(answer, (list, tuple)) else f"with a `{type(answer).__name__}`"
            # Nobody can say which answer belongs to which event. A fault of the function: another version may do better.
            return [TypeError(f"the function answered {what} to {len(events)} events")] * len(events)
        outcomes: list[Outcome] = []
        for one in answer:
            try:
                outcomes.append(one if isinstance(one, BaseException) else _returned(one))
            except BaseException as error:
                outcomes.append(error)
        return outcomes


def _returned(answer: Any) -> list[Wire]:
    if answer is None:
        return []
    if isinstance(answer, Event):
        return [written(answer)]
    if isinstance(answer, (str, bytes, abc.Mapping)) or not isinstance(answer, abc.Iterable):
        raise TypeError(f"a handler answers with nothing, an `Event` or several, not with a `{type(answer).__name__}`")
    return [written(event) for event in answer if event is not None]
