"""Makes the component of a function: `python -m dunlin._build`, as `dunlin build` runs it.

It is run by a Python that has `componentize-py`. The function's own files are copied aside first, so that nothing is written
among them; what the function requires is in an environment of its own.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from . import _importer

_SKIPPED = {"__pycache__", "node_modules", "target", "venv", "tests", "test"}
_MOST = 10 << 20
_VERSION = "1"
"""Counts up when the same input is to give another component."""

Failed = RuntimeError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dunlin._build", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the function's module: app.py")
    parser.add_argument("--world", choices=("events", "http"), required=True)
    parser.add_argument("--wit", type=Path, required=True, help="the folder sdk/wit")
    parser.add_argument("--environment", type=Path, required=True, help="the environment with what the function requires")
    parser.add_argument("--cache", type=Path, required=True, help="a folder of this function's own, kept between builds")
    parser.add_argument("--library", type=Path, required=True, help="what keeps clock and chance out of the component")
    parser.add_argument("--output", type=Path, required=True, help="the component")
    parser.add_argument("--develop", action="store_true", help="make a component that has the source in a variable")
    parser.add_argument("--variable", action="store_true", help="make nothing; print what such a component has in its variable")
    arguments = vars(parser.parse_args())
    try:
        if arguments.pop("variable"):
            print(developed(arguments["source"]))
        else:
            build(**arguments)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def build(
    *, source: Path, world: str, wit: Path, environment: Path, cache: Path, library: Path, output: Path, develop: bool = False
) -> None:
    """Makes a component. Raises `Failed` with what is to be shown."""
    module = source.stem
    if source.suffix != ".py" or not module.isidentifier():
        raise Failed(f"`{source.name}` can't be imported: a module is called like `app.py`")
    if module in sys.stdlib_module_names or module in ("dunlin", "http", "events"):
        raise Failed(f"`{source.name}` would hide the module `{module}` of Python or Dunlin: call it `app.py`")
    sdk = Path(__file__).resolve().parent.parent
    packages = _packages(environment)
    own = dict(_files(source.parent))
    contents = _contents(own)
    seeded = library.read_bytes().replace(b"0000000000\0", b"%010d\0" % int(contents[:8], 16))
    words = (contents, hashlib.sha256(seeded).hexdigest(), module, world, str(develop), sys.modules["dunlin"].__version__, _VERSION)
    digest = _digest(sdk, wit, packages, words)
    kept, mark = cache / "component.wasm", cache / "digest"
    if not (kept.is_file() and mark.is_file() and mark.read_text() == digest):
        stage = cache / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        for name, data in own.items():
            path = stage / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        written = {"MODULE": module, "FILE": source.name, "WORLD": world, "DEVELOPED": develop}
        written |= {"FILES": _importer.modules_below(stage), "PACKAGES": _importer.modules_below(packages)}
        (stage / "_dunlin_build.py").write_text("".join(f"{name} = {value!r}\n" for name, value in written.items()))
        _componentize(world, wit, [stage, sdk, cache / "said", packages], seeded, kept)
        shutil.rmtree(stage, ignore_errors=True)
        mark.write_text(digest)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, output)


def developed(source: Path) -> str:
    """The function's own files, for the variable `DUNLIN_PYTHON_SOURCE` of a component that was made with `--develop`."""
    # In JSON a byte is the character of its number.
    files = {name: data.decode("latin-1") for name, data in _files(source.parent)}
    return base64.b64encode(zlib.compress(json.dumps(files, sort_keys=True).encode())).decode()


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The function's own files, tests aside."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        for name in sorted(files):
            path = Path(at, name)
            skipped = name.startswith((".", "test_")) or name.endswith((".wasm", ".pyc", "~")) or path.is_symlink()
            if not skipped and path.stat().st_size <= _MOST:
                yield path.relative_to(folder).as_posix(), path.read_bytes()


def _packages(environment: Path) -> Path:
    found = sorted(environment.glob("lib/python*/site-packages")) or [environment / "Lib" / "site-packages"]
    if not found[0].is_dir():
        raise Failed(f"`{environment}` is no environment of Python")
    return found[0].resolve()


def _contents(own: dict[str, bytes]) -> str:
    """A digest of the function's own files. There is nothing of this machine in it."""
    sum_ = hashlib.sha256()
    for name, data in own.items():
        sum_.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    return sum_.hexdigest()


def _digest(sdk: Path, wit: Path, packages: Path, words: tuple[str, ...]) -> str:
    """What the component is made of."""
    sum_ = hashlib.sha256(json.dumps(words).encode())
    for folder, pattern in ((sdk / "dunlin", "*.py"), (wit, "**/*.wit"), (packages, "*.dist-info/RECORD")):
        for path in sorted(folder.glob(pattern)):
            sum_.update(f"{path.relative_to(folder).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sum_.hexdigest()


def _componentize(world: str, wit: Path, paths: list[Path], library: bytes, output: Path) -> None:
    said = paths[2]
    shutil.rmtree(said, ignore_errors=True)
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    (said / "_reproducible.abi3.so").write_bytes(library)
    with zipfile.ZipFile(said / "first.zip", "w") as first:
        first.writestr(zipfile.ZipInfo("encodings/__init__.py"), Path(__file__).with_name("_finder.py").read_bytes())
    command = [sys.executable, "-c", "import sys; from componentize_py import script; sys.exit(script())", "--quiet"]
    command += ["--wit-path", str(wit), "--world", world, "componentize", "dunlin._entry", "--output", str(output)]
    for path in paths:
        command += ["--python-path", str(path)]
    # A VIRTUAL_ENV is what keeps it from looking for packages of its own; this one has none.
    empty = said / "environment"
    (empty / "lib" / "site-packages").mkdir(parents=True)
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "VIRTUAL_ENV": str(empty)})
    error = said / "error.txt"
    if error.is_file():
        raise Failed(_explained(error.read_text().rstrip(), paths[3]))
    if ended.returncode != 0:
        raise Failed(f"{ended.stdout}{ended.stderr}".strip())


def _explained(text: str, packages: Path) -> str:
    """An import that failed for what packages or files there are."""
    if elsewhere := re.search(r"^FileNotFoundError: .*: '([^/'][^']*)'$", text, re.MULTILINE):
        return f'{text}\nhelp: files of the function are found beside its module: `Path(__file__).with_name("{elsewhere[1]}")`'
    missing = re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", text, re.MULTILINE)
    if not missing:
        return text
    name = missing[1].replace(".", os.sep)
    if list(packages.glob(f"{name}.*.so")) + list(packages.glob(f"{name}.*.pyd")):
        return f"{text}\nhelp: `{missing[1]}` is native code, which a component can't have: look for a package that is pure Python"
    return f"{text}\nhelp: if it is a package, add it to requirements.txt"


if __name__ == "__main__":
    sys.exit(main())
