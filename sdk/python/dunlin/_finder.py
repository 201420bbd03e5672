"""How modules are found while a component is made: places are tried, and no folder is listed.

A file system lists a folder in an order of its own. What is read in another order has another place in memory, so a component
would have other bytes on another machine. The first file that Python reads is that of its module `encodings`: `_build` has it
find this one, which changes how the next are found, and makes way for the real one.
"""

# mypy: ignore-errors
import _frozen_importlib_external as files
import posix
import sys


class Loader(files.SourceFileLoader):
    def get_code(self, fullname):
        # It neither looks for code that was compiled before, nor asks how old the source is.
        return self.source_to_code(self.get_data(self.path), self.path)


class Finder(files.PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        name = fullname.rpartition(".")[2]
        parts = []
        for folder in sys.path if path is None else path:
            at = f"{folder}/{name}"
            if posix.access(f"{at}/__init__.py", posix.R_OK):
                return _spec(fullname, f"{at}/__init__.py", Loader, [at])
            for suffix in files._imp.extension_suffixes():
                if posix.access(at + suffix, posix.R_OK):
                    return _spec(fullname, at + suffix, files.ExtensionFileLoader)
            if posix.access(f"{at}.py", posix.R_OK):
                return _spec(fullname, f"{at}.py", Loader)
            # Which asks for nothing that a file system answers in its own way, as its size.
            if posix.access(f"{at}/.", posix.F_OK):
                parts.append(at)
        if not parts:
            return None
        spec = files._bootstrap.ModuleSpec(fullname, None)
        spec.submodule_search_locations = parts
        return spec


def _spec(name, file, loader, parts=None):
    return files.spec_from_file_location(name, file, loader=loader(name, file), submodule_search_locations=parts)


sys.path.remove(__file__.removesuffix("/encodings/__init__.py"))
sys.meta_path[sys.meta_path.index(files.PathFinder)] = Finder
sys.path_importer_cache.clear()
del sys.modules["encodings"]
import encodings  # noqa: E402, F401
