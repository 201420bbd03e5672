"""Modules in memory, for a component: it has no files when it runs.

What is imported when a component is built is there, since its memory is kept. What is imported later, inside a function, by the
standard library itself, or in code that comes with a call while developing, is found in here: every source that could have been
imported, compressed.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, ModuleType

_SKIPPED = frozenset(
    "__pycache__ test tests idlelib tkinter turtledemo ensurepip lib2to3 pydoc_data site-packages lib-dynload bin pip setuptools"
    " wheel _distutils_hack componentize_py".split()
)


def modules_below(folder: Path) -> list[str]:
    """The paths of what can be imported when the folder is in `sys.path`."""
    found = []
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and "." not in name and "-" not in name)
        found += [Path(at, name).relative_to(folder).as_posix() for name in sorted(files) if name.endswith(".py")]
    return found


class Loader(importlib.abc.InspectLoader):
    """Loads modules from sources. The key of a source is its file."""

    def __init__(self) -> None:
        self.sources: dict[str, bytes] = {}
        self.files: dict[str, tuple[str, bool]] = {}
        """By a module's name: its file, and whether it is a package."""

    def add_files(self, folder: str, paths: Iterable[str]) -> None:
        """Takes in modules by their paths below a folder, as they are imported when it is in `sys.path`."""
        for path in paths:
            file = os.path.join(folder, path)
            with open(file, "rb") as source:
                self._add(folder, file, zlib.compress(source.read(), 6))

    def add_sources(self, folder: str, sources: Mapping[str, bytes]) -> None:
        """Takes in modules that are no files."""
        for path, source in sources.items():
            self._add(folder, os.path.join(folder, path), zlib.compress(source, 1))

    def _add(self, folder: str, path: str, source: bytes) -> None:
        names = os.path.relpath(path, folder)[: -len(".py")].split(os.sep)
        package = names[-1] == "__init__"
        name = ".".join(names[:-1] if package else names)
        if name:
            self.sources[path] = source
            self.files.setdefault(name, (path, package))

    def forget(self, name: str) -> None:
        self.files.pop(name, None)

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        found = self.files.get(name)
        if found is None:
            return None
        file, package = found
        spec = importlib.machinery.ModuleSpec(name, self, origin=file, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(file)]
        return spec

    def get_source(self, fullname: str) -> str:
        return zlib.decompress(self.sources[self.files[fullname][0]]).decode()

    def get_code(self, fullname: str) -> CodeType:
        file = self.files[fullname][0]
        return compile(zlib.decompress(self.sources[file]), file, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self.files[fullname][1]

    def get_data(self, path: str) -> bytes:
        if path in self.sources:
            return zlib.decompress(self.sources[path])
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, fullname: str) -> object:
        from importlib.resources.readers import FileReader

        return FileReader(importlib.machinery.SourceFileLoader(fullname, self.files[fullname][0]))


def standard_library() -> str:
    """The folder of the standard library."""
    # Not that of `os`, which is frozen and says where it would be.
    return os.path.dirname(os.path.dirname(json.__file__))


def install(loader: Loader) -> None:
    """From here on modules are found in memory only."""
    of_files = importlib.machinery.PathFinder
    others = [finder for finder in sys.meta_path if not (isinstance(finder, type) and issubclass(finder, of_files))]
    sys.meta_path[:] = [*others, loader]
    sys.path_importer_cache.clear()
