"""A function's own files while it is developed: they come with a call, and are there for as long as its modules are imported.

When a component is built, its modules are imported with their folder beside them, and can read what is in it. A component that is
developed has no folder, so what asks for files is answered from memory meanwhile.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


class OwnFiles:
    def __init__(self, folder: str, contents: Mapping[str, bytes]) -> None:
        self._files = {f"{folder}/{path}": data for path, data in contents.items()}
        self._folders: dict[str, dict[str, None]] = {folder: {}}
        for path in self._files:
            while path != folder:
                above = os.path.dirname(path)
                self._folders.setdefault(above, {})[path] = None
                path = above

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """While it is, Python's ways to read files and folders know these."""
        ways: list[tuple[Any, str, Callable[..., Any]]] = [
            (builtins, "open", self._open),
            (io, "open", self._open),
            (os, "stat", self._of_path(os.stat, self._stat)),
            (os, "lstat", self._of_path(os.lstat, self._stat)),
            (os, "listdir", self._of_path(os.listdir, self._names)),
            (os, "scandir", self._of_path(os.scandir, self._entries)),
        ]
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in ways]
        for owner, name, way in ways:
            setattr(owner, name, way)
        try:
            yield
        finally:
            for owner, name, way in before:
                setattr(owner, name, way)

    def _of_path(self, other: Callable[..., Any], own: Callable[[str], Any]) -> Callable[..., Any]:
        def way(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            known = self._known(path)
            return other(path, *arguments, **options) if known is None else own(known)

        return way

    def _known(self, path: Any) -> str | None:
        """The file or folder that is meant, if it is one of these."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        path = os.path.normpath(os.fsdecode(path))
        return path if path in self._files or path in self._folders else None

    def _open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        known = self._known(file)
        if known is None or not set(mode) <= set("rbt"):
            return _opens(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if known in self._folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
        opened = _Bytes(self._files[known])
        opened.name = file
        return opened if "b" in mode else io.TextIOWrapper(opened, encoding or "utf-8", errors, newline)

    def _stat(self, path: str) -> os.stat_result:
        data = self._files.get(path)
        kind, size = (stat.S_IFDIR | 0o755, 0) if data is None else (stat.S_IFREG | 0o644, len(data))
        return os.stat_result((kind, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def _listed(self, path: str) -> Iterable[str]:
        if path in self._files:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return self._folders[path]

    def _names(self, path: str) -> list[str]:
        return [os.path.basename(inner) for inner in self._listed(path)]

    def _entries(self, path: str) -> _Entries:
        return _Entries([_Entry(inner, self._stat(inner)) for inner in self._listed(path)])


_opens = io.open


class _Bytes(io.BytesIO):
    name: Any


class _Entry:
    """An `os.DirEntry`."""

    def __init__(self, path: str, status: os.stat_result) -> None:
        self.path, self.name, self._status = path, os.path.basename(path), status

    def __fspath__(self) -> str:
        return self.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._status

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISREG(self._status.st_mode)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return stat.S_ISDIR(self._status.st_mode)

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def inode(self) -> int:
        return 0


class _Entries(contextlib.AbstractContextManager["_Entries"]):
    """What `os.scandir` answers with."""

    def __init__(self, entries: list[_Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def __next__(self) -> _Entry:
        return next(self._entries)

    def close(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.close()
