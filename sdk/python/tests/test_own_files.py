"""The files that a function has while its modules are imported, where there are none."""

from __future__ import annotations

import glob
import importlib.resources
import json
import os
import pkgutil
import sys
import unittest
from pathlib import Path
from unittest import mock

from dunlin import _importer
from dunlin._own_files import OwnFiles

FILES = {
    "app.py": b"",
    "prices.json": b'{"tea": 3}',
    "sql/all.sql": "select '\u00fc'\r\n".encode(),
    "sql/old/one.sql": b"select 1",
    "part/__init__.py": b"VALUE = 7",
    "part/data.bin": bytes(range(256)),
}
FOLDER = Path("/nowhere/0")


@unittest.skipIf(sys.version_info < (3, 11), "its pathlib holds on to the functions themselves; a component has a later Python")
class OwnFilesTests(unittest.TestCase):
    def setUp(self) -> None:
        self.own = OwnFiles(str(FOLDER), FILES)

    def test_they_are_read_as_files_are(self):
        with self.own.there():
            self.assertEqual(json.loads((FOLDER / "prices.json").read_text()), {"tea": 3})
            self.assertEqual((FOLDER / "part/data.bin").read_bytes(), bytes(range(256)))
            with open(f"{FOLDER}/sql/../sql/all.sql", encoding="utf-8") as file:
                self.assertEqual((file.name, list(file)), (f"{FOLDER}/sql/../sql/all.sql", ["select '\u00fc'\n"]))
            with open(os.fsencode(FOLDER / "sql/all.sql"), newline="") as file:
                self.assertTrue(file.read().endswith("\r\n"))
            for mode, wrong in [("r", FOLDER / "other.json"), ("w", FOLDER / "new.json"), ("a", FOLDER / "prices.json")]:
                with self.assertRaises(FileNotFoundError):
                    open(wrong, mode)
            with self.assertRaises(IsADirectoryError):
                open(FOLDER / "sql")
            # All others are where they were.
            self.assertTrue(Path(__file__).is_file())
            self.assertIn("OwnFilesTests", Path(__file__).read_text())
            self.assertIn("_own_files.py", os.listdir(Path(_importer.__file__).parent))

    def test_folders_are_listed(self):
        with self.own.there():
            self.assertEqual(sorted(os.listdir(FOLDER)), ["app.py", "part", "prices.json", "sql"])
            self.assertEqual(sorted(path.name for path in FOLDER.iterdir()), ["app.py", "part", "prices.json", "sql"])
            self.assertEqual(glob.glob(f"{FOLDER}/s*/*.sql"), [f"{FOLDER}/sql/all.sql"])
            walked = [(at, sorted(folders), sorted(files)) for at, folders, files in os.walk(FOLDER / "sql")]
            self.assertEqual(walked, [(f"{FOLDER}/sql", ["old"], ["all.sql"]), (f"{FOLDER}/sql/old", [], ["one.sql"])])
            self.assertEqual((FOLDER / "prices.json").stat().st_size, 10)
            self.assertTrue((FOLDER / "sql").is_dir() and (FOLDER / "app.py").is_file() and (FOLDER / "sql").resolve().exists())
            self.assertFalse((FOLDER / "other").exists() or (FOLDER / "app.py").is_dir())
            with self.assertRaises(NotADirectoryError):
                os.listdir(FOLDER / "app.py")

    def test_packages_find_what_comes_with_them(self):
        loader = _importer.Loader()
        loader.add_sources(str(FOLDER), {path: data for path, data in FILES.items() if path.endswith(".py")})
        self.addCleanup(lambda: sys.modules.pop("part", None))
        with mock.patch.object(sys, "meta_path", [*sys.meta_path, loader]), self.own.there():
            self.assertEqual(pkgutil.get_data("part", "data.bin"), bytes(range(256)))
            self.assertEqual((importlib.resources.files("part") / "data.bin").read_bytes(), bytes(range(256)))

    def test_afterwards_they_are_gone(self):
        ways = [(open, os.stat, os.lstat, os.listdir, os.scandir)]
        with self.own.there():
            ways.append((open, os.stat, os.lstat, os.listdir, os.scandir))
        ways.append((open, os.stat, os.lstat, os.listdir, os.scandir))
        self.assertEqual(ways[0], ways[2])
        self.assertFalse(set(ways[0]) & set(ways[1]))
        self.assertFalse((FOLDER / "app.py").exists())
