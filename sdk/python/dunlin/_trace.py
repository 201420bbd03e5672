"""What went wrong, for people: the error in one line, then where in the function it was."""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from types import TracebackType

from ._errors import Problem, Reject, Retry

_SDK = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IMPORTLIB = os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep
_SHOWN = 8
"""Frames shown at either end of a long stack."""

roots: list[str] = []
"""Folders whose names tell nobody anything: they are left out of the names of files."""

files_are_gone = False
"""A function's files are there while its modules are imported."""


def message_of(error: BaseException) -> str:
    """`KeyError: 'total'`; of what the SDK has for saying so, the text alone."""
    text = str(error)
    name = type(error).__qualname__
    if type(error) in (Reject, Retry, Problem):
        name, text = (text, "") if text else (name, "")
    # What `add_note` adds.
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    # One that a function raises for reasons of its own names no file.
    if files_are_gone and isinstance(error, FileNotFoundError) and error.filename is not None:
        notes.append("help: there are no files when a function is called: read them at the top of a module")
    return "\n".join([f"{name}: {text}" if text else name, *notes])


def describe(error: BaseException) -> str:
    """The error in one line, and the stack in the lines that follow."""
    lines = [message_of(error), *_stack(error.__traceback__)]
    seen = {id(error)}
    while (cause := _cause(error)) is not None and id(cause) not in seen:
        seen.add(id(cause))
        lines += [f"caused by {message_of(cause)}", *_stack(cause.__traceback__)]
        error = cause
    return "\n".join(lines)


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _stack(trace: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        # Nor how Python imports a module.
        if not os.path.abspath(code.co_filename).startswith((_SDK, _IMPORTLIB)) and "<frozen" not in code.co_filename:
            frames.append(_frame(code.co_filename, trace.tb_lineno, getattr(code, "co_qualname", code.co_name)))
        trace = trace.tb_next
    frames = _once(frames)
    if len(frames) > 2 * _SHOWN:
        left = len(frames) - 2 * _SHOWN
        frames[_SHOWN:-_SHOWN] = [f"  … {left} more …"]
    return frames


def _once(frames: list[str]) -> list[str]:
    """A function that calls itself is shown a few times."""
    kept: list[str] = []
    again = 0
    for index, frame in enumerate(frames):
        again = again + 1 if kept and frame == frames[index - 1] else 0
        if again < 3:
            kept.append(frame)
        elif again == 3:
            kept.append("")
        if again >= 3:
            kept[-1] = f"    … and {again - 2} times more"
    return kept


def _frame(file: str, line: int | None, name: str) -> str:
    shown = next((file[len(root) :] for root in roots if file.startswith(root)), file)
    head = f'  File "{shown}", line {line}, in {name}'
    source = linecache.getline(file, line or 0).strip()
    return f"{head}\n    {source}" if source else head


def keep_sources() -> None:
    """Keeps the source of the modules that are loaded from the function's own files, for stacks: there are no files later."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and any(file.startswith(root) for root in roots) and not file.startswith(_SDK):
            lines = linecache.getlines(file)
            if lines:
                # Without a time, it is taken for a file that can't change.
                linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
