"""Making a component, as far as it goes without `componentize-py`: what goes into it, and what is said when it can't be made."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path
from unittest import mock

from dunlin import _build, _importer, _trace


class BuildTests(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("fn/app.py", "import dunlin")
        self.write("wit/a.wit", "package a:b;")
        self.write("library.so", "PYTHONHASHSEED\0" + "0000000000\0")
        self.packages = self.folder / "venv/lib/python3.11/site-packages"
        self.packages.mkdir(parents=True)

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def build(self, source: str = "fn/app.py", world: str = "events") -> int:
        """Answers with how often `componentize-py` was run."""

        def componentize(world: str, wit: Path, paths: list[Path], library: bytes, output: Path) -> None:
            self.library = library
            self.staged = {path.relative_to(paths[0]).as_posix(): path.read_text() for path in paths[0].rglob("*.py")}
            output.write_bytes(b"\0asm")

        with mock.patch.object(_build, "_componentize", side_effect=componentize) as run:
            _build.build(
                source=self.folder / source,
                world=world,
                wit=self.folder / "wit",
                environment=self.folder / "venv",
                cache=self.folder / "cache",
                library=self.folder / "library.so",
                output=self.folder / "out/app.wasm",
            )
        return run.call_count

    def test_the_same_input_gives_the_same_component(self):
        self.assertEqual(self.build(), 1)
        self.assertEqual((self.folder / "out/app.wasm").read_bytes(), b"\0asm")
        (self.folder / "out/app.wasm").unlink()
        self.assertEqual(self.build(), 0)
        self.assertTrue((self.folder / "out/app.wasm").exists())
        for path in (
            "fn/app.py",
            "fn/more/part.py",
            "wit/a.wit",
            "library.so",
            "venv/lib/python3.11/site-packages/a-1.dist-info/RECORD",
        ):
            self.write(path, "new = 1")
            self.assertEqual(self.build(), 1, path)
        self.assertEqual(self.build(world="http"), 1)

    def test_the_seed_of_hashes_is_the_sources_own(self):
        self.build()
        first = self.library
        self.assertRegex(first, rb"^PYTHONHASHSEED\0[0-9]{10}\0$")
        self.assertLess(int(first[15:25]), 1 << 32)
        self.build(world="http")
        self.assertEqual(self.library, first)
        self.write("fn/app.py", "import dunlin, json")
        self.build()
        self.assertNotEqual(self.library, first)

    def test_only_the_functions_own_files_go_into_it(self):
        for path in ("fn/test_app.py", "fn/tests/a.py", "fn/.venv/a.py", "fn/node_modules/a.py", "fn/out.wasm"):
            self.write(path, "")
        self.write("fn/part/__init__.py", "")
        self.build()
        self.assertEqual(set(self.staged), {"app.py", "part/__init__.py", "_dunlin_build.py"})
        self.assertIn("MODULE = 'app'", self.staged["_dunlin_build.py"])

    def test_a_module_that_can_not_be(self):
        for name, reason in [("fn/my-app.py", "can't be imported"), ("fn/json.py", "would hide the module `json`")]:
            self.write(name, "")
            with self.assertRaisesRegex(_build.Failed, reason):
                self.build(name)

    def test_a_package_that_is_native_code(self):
        text = "ModuleNotFoundError: No module named 'numpy._core'"
        self.assertIn("add it to requirements.txt", _build._explained(text, self.packages))
        self.write("venv/lib/python3.11/site-packages/numpy/_core.cpython-311-x86_64-linux-gnu.so", "")
        self.assertIn("`numpy._core` is native code", _build._explained(text, self.packages))
        self.assertEqual(_build._explained("KeyError: 'a'", self.packages), "KeyError: 'a'")

    def test_what_is_developed_is_in_a_variable(self):
        (self.folder / "fn/data").write_bytes(bytes(range(256)))
        files = json.loads(zlib.decompress(base64.b64decode(_build.developed(self.folder / "fn/app.py"))))
        self.assertEqual(
            {path: text.encode("latin-1") for path, text in files.items()}, {"app.py": b"import dunlin", "data": bytes(range(256))}
        )

    def test_a_file_that_is_looked_for_elsewhere(self):
        text = "FileNotFoundError: [Errno 44] No such file or directory: 'data/prices.json'"
        self.assertIn(
            '`Path(__file__).with_name("data/prices.json")`', _build._explained(f'{text}\n  File "app.py"', self.packages)
        )


class ImporterTests(unittest.TestCase):
    def test_modules_are_found_without_files(self):
        with tempfile.TemporaryDirectory() as folder:
            for path, text in [
                ("onlyhere/__init__.py", "from . import part"),
                ("onlyhere/part.py", "VALUE = 7\ndef fails(): raise KeyError(1)"),
            ]:
                file = Path(folder, path)
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
            loader = _importer.Loader()
            loader.add_files(folder, _importer.modules_below(Path(folder)))
        self.addCleanup(lambda: [sys.modules.pop(name, None) for name in ("onlyhere", "onlyhere.part")])
        with mock.patch.object(sys, "meta_path", [*sys.meta_path, loader]):
            import onlyhere.part  # type: ignore[import-not-found]

            self.assertEqual(onlyhere.part.VALUE, 7)
            with self.assertRaises(ImportError):
                import onlyhere.nothing  # type: ignore[import-not-found]  # noqa: F401
        self.assertIn("VALUE = 7", loader.get_source("onlyhere.part"))
        self.assertIn(b"VALUE = 7", loader.get_data(f"{folder}/onlyhere/part.py"))
        with self.assertRaises(FileNotFoundError) as missing:
            loader.get_data("/other")
        self.assertNotIn("help", _trace.message_of(missing.exception))
        with mock.patch.object(_trace, "files_are_gone", True):
            self.assertRegex(_trace.message_of(missing.exception), "read them at the top of a module")
            self.assertEqual(_trace.message_of(FileNotFoundError("order 7")), "FileNotFoundError: order 7")

    def test_the_standard_library_is_all_there(self):
        loader = _importer.Loader()
        loader.add_files(_importer.standard_library(), _importer.modules_below(Path(_importer.standard_library())))
        for name in ("json", "email.mime.text", "xml.etree.ElementTree", "encodings.cp1252"):
            self.assertIn(name, loader.files)
        self.assertNotIn("test.support", loader.files)


class CommandTests(unittest.TestCase):
    def test_it_says_what_is_wrong(self):
        arguments = ["--source", "/nowhere/my-app.py", "--world", "http", "--wit", "/", "--environment", "/"]
        command = [sys.executable, "-m", "dunlin._build", *arguments]
        for option in ("--cache", "--library", "--output"):
            command += [option, "/nowhere"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (1, "`my-app.py` can't be imported: a module is called like `app.py`\n"))
