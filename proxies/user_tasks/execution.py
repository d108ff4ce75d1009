"""Running a user's Python file: imports from its own folder, and the record of what it read.

While the file runs, `import helper` finds `helper.py` beside it, and what is printed goes to
standard error. Afterwards `sys.path`, the finders, `sys.modules`, the working directory and the
recursion limit are as before, so that another file's `helper` is another module. Every file that is
opened for reading meanwhile is recorded, since the task depends on it.

Before the file, or another one of its folder, is executed, the audit event `proxies.execute` is
raised (see `sys.audit`). Its arguments are the path of what is to be executed, that of the file
that is running, and the SHA-256 of the very bytes that are compiled (None where they are not known,
as in an `exec` of the user's own). A hook that raises refuses the code; without a hook it runs.
"""

import hashlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import jax

from proxies.task import Files

EXECUTE = "proxies.execute"
"""The audit event before code is executed: `(path, path of the running file, digest or None)`."""
_CREATES = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr")
_CODE = frozenset([".py", ".pyc", ".pyi", ".pth", ".so", ".pyd"])


def sha256(path: Path | str) -> str:
    """The digest of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Execution:
    """A user's Python file that is running; entered by `executing`."""

    def __init__(self, path: Path):
        self.path = Path(os.path.abspath(path))
        self.name = f"evosearch_own_{self.path.stem}"
        self.modules = {self.name}
        """Names of the modules that came from the file's folder, its own among them."""
        self.tree = _roots([os.path.dirname(self.path), os.path.dirname(os.path.realpath(path))])
        """The folder that the file lies in; with a link also that of the file itself."""
        self._libraries = self._elsewhere(_library_roots())
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._known: dict[str, str] = {}
        self._accepted: set[CodeType] = set()

    def run(self) -> ModuleType:
        """The module that the file is."""
        loader = _SourceLoader(self.name, str(self.path))
        spec = spec_from_file_location(self.name, self.path, loader=loader)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[self.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    def includes(self, path: str) -> bool:
        """Whether `path` lies in the file's folder or below it and is not a library's."""
        return _is_within(path, self.tree) and not self.is_of_library(path)

    def is_of_library(self, path: str) -> bool:
        """Whether `path` belongs to Python, an installed package or this project.

        Not where the file itself is a part of such a library.
        """
        return _is_within(path, self._libraries)

    def add(self, files: Files) -> None:
        """Records files with their digests that another task of this process was made from."""
        self._known.update(files)

    def opened(self, name: Any, flags: int) -> None:
        """Records that a file is opened."""
        if isinstance(name, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(name))
            (self._written if flags & _CREATES else self._read).add(path)

    def loaded(self, name: str, source: bytes) -> None:
        """Asks whether `source`, read from the file `name`, may be executed; records that it is."""
        path = os.path.abspath(name)
        if path == str(self.path) or self.includes(path):
            sys.audit(EXECUTE, path, str(self.path), hashlib.sha256(source).hexdigest())
            self._read.add(path)

    def accept(self, code: CodeType) -> None:
        """`code` was compiled from what `loaded` has let pass."""
        self._accepted.add(code)

    def executed(self, code: CodeType) -> None:
        """Asks whether `code` may be executed, and records that its file is."""
        path = os.path.abspath(code.co_filename)
        if code not in self._accepted and os.path.isfile(path) and self.includes(path):
            sys.audit(EXECUTE, path, str(self.path), None)
            self._read.add(path)

    def files(self) -> Files:
        """The files that were read, each with the digest of its content; the Python file is first.

        Files that the run wrote itself do not count, nor do libraries, caches and system files.
        """
        found = dict(self._known)
        others = self._elsewhere(_caches()), self._elsewhere(_system())
        for path in self._read - self._written:
            if self._counts(path, *others) and os.path.isfile(path):
                found[path] = sha256(path)
        own = str(self.path)
        first = (own, found.pop(own, "") or sha256(own))
        return (first, *sorted(found.items()))

    def _counts(self, path: str, caches: tuple[str, ...], system: tuple[str, ...]) -> bool:
        parts = Path(path).parts
        is_metadata = any(part.endswith((".dist-info", ".egg-info")) for part in parts)
        if "__pycache__" in parts or is_metadata or _is_within(path, (*caches, *self._libraries)):
            return False
        if _is_within(path, self.tree):
            return True
        return not _is_within(path, system) and Path(path).suffix not in _CODE

    def _elsewhere(self, roots: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `roots` that the file itself does not lie in."""
        return tuple(root for root in roots if not _is_within(str(self.path), (root,)))


@contextmanager
def executing(path: Path) -> Iterator[Execution]:
    """While entered, the Python file at `path` may run: siblings are found, reading is recorded."""
    with _LOCK:
        _listen()
        execution = Execution(path)
        finder = _SiblingFinder(execution)
        search_path, before = list(sys.path), dict(sys.modules)
        hidden = _homonyms(finder, before)
        for name in hidden:
            del sys.modules[name]
        sys.meta_path.insert(0, finder)
        _ACTIVE.append(execution)
        try:
            with _restored_process(), redirect_stdout(sys.stderr):
                yield execution
        finally:
            _ACTIVE.remove(execution)
            sys.meta_path.remove(finder)
            sys.path[:] = search_path
            for name, module in list(sys.modules.items()):
                if before.get(name) is not module and execution.includes(_home(module)):
                    del sys.modules[name]
            sys.modules.update(hidden)


@contextmanager
def _restored_process() -> Iterator[None]:
    """Afterwards the working directory and the recursion limit are as before."""
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # it has been removed
        directory = None
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        if directory is not None:
            os.chdir(directory)


def inherit(files: Files) -> None:
    """Records for every file that is running now that it made its task from another one."""
    for execution in _ACTIVE:
        execution.add(files)


class _SourceLoader(SourceFileLoader):
    """Runs a module's source. Bytecode beside it is not read: it may be of other code."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        for execution in tuple(_ACTIVE):
            execution.loaded(path, source)
        code: CodeType = self.source_to_code(source, path)
        for execution in tuple(_ACTIVE):
            execution.accept(code)
        return code


class _SiblingFinder(MetaPathFinder):
    """Finds modules in the folder of a running file; never one named as the standard library's."""

    def __init__(self, execution: Execution):
        self.execution = execution

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and fullname in sys.stdlib_module_names:
            return None
        places = [*self.execution.tree, *sys.path] if path is None else path
        for place in map(os.path.abspath, places):
            if not self.execution.includes(os.path.join(place, "module.py")):
                continue
            spec = FileFinder(place, (_SourceLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is None or (spec.loader is None and PathFinder.find_spec(fullname, path)):
                continue  # a folder without __init__.py gives way to a module elsewhere
            self.execution.modules.add(fullname)
            return spec
        return None


def _homonyms(finder: _SiblingFinder, modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """The loaded modules that hide siblings of the running file by having their names."""
    tops = {name.partition(".")[0] for name in modules} - {"__main__", *sys.stdlib_module_names}
    taken = {
        top
        for top in tops
        if top in modules
        and not finder.execution.is_of_library(_home(modules[top]))
        and finder.find_spec(top, None) is not None
    }
    return {name: module for name, module in modules.items() if name.partition(".")[0] in taken}


def _home(module: ModuleType) -> str:
    """Where a module was loaded from; "" for one that was not loaded from a file."""
    file = getattr(module, "__file__", None)
    if file is None:  # a folder without __init__.py has only places
        file = next(iter(getattr(module, "__path__", None) or ()), "")
    return os.path.abspath(file) if isinstance(file, str) and file else ""


_LOCK = threading.RLock()
_ACTIVE: list[Execution] = []


@cache
def _listen() -> None:
    """Installs the audit hook, once; it does nothing while no file is running."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _ACTIVE:
        return
    if event == "open":
        for execution in tuple(_ACTIVE):
            execution.opened(arguments[0], arguments[2])
    elif event == "exec" and isinstance(arguments[0], CodeType):
        for execution in tuple(_ACTIVE):
            execution.executed(arguments[0])


def _is_within(path: str, roots: tuple[str, ...]) -> bool:
    """Whether `path` is one of `roots` or lies below it, as written or with links followed."""
    places = {path, os.path.realpath(path)} if path else set()
    starts = tuple(root.rstrip(os.sep) + os.sep for root in roots)
    return any(place in roots or place.startswith(starts) for place in places)


def _roots(folders: Iterable[str | None]) -> tuple[str, ...]:
    """Folders as `_is_within` takes them: as written and with links followed."""
    named = [os.path.abspath(os.path.expanduser(folder)) for folder in folders if folder]
    return tuple(dict.fromkeys([*named, *map(os.path.realpath, named)]))


@cache
def _library_roots() -> tuple[str, ...]:
    """Where Python, its packages and this project lie."""
    paths = sysconfig.get_paths()
    home = Path(__file__).parents[2]
    python = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    own = [str(home / package) for package in ("primitives", "proxies", "evosearch")]
    return _roots([*python, *packages, *own])


def _system() -> tuple[str, ...]:
    """Where the system and the Python environment lie."""
    return _roots([sys.prefix, sys.base_prefix, *_SYSTEM])


def _caches() -> tuple[str, ...]:
    """Where programs keep their settings and state, and what they can make again."""
    environ = os.environ
    compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    cache, settings = environ.get("XDG_CACHE_HOME"), environ.get("XDG_CONFIG_HOME")
    state = environ.get("XDG_STATE_HOME")
    folders = [cache or "~/.cache", settings or "~/.config", state or "~/.local/state", compiled]
    return _roots(folders)
