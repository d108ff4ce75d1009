"""Execution of a user's Python file: imports from its folder, and a record of files read.

While the file runs, `import helper` finds `helper.py` in the same folder, and standard output is
redirected to standard error. Afterwards `sys.path`, the finders, `sys.modules`, the working
directory and the recursion limit are restored, so that two tasks can have different modules named
`helper`. The task depends on every file that is opened for reading, so all of them are recorded.

Before the file, or another file of its folder, is executed, the audit event `proxies.execute` is
raised (see `sys.audit`). Its arguments are the path of the file to execute, the path of the task
file, and the SHA-256 digest of the bytes that are compiled. The digest is None if the bytes are
unknown, as in a call of `exec`. An audit hook refuses the code by raising an exception.
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
"""Name of the audit event that is raised before code is executed; see the module's docstring."""
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC  # flags of files opened for writing
_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr")
_CODE_SUFFIXES = frozenset([".py", ".pyc", ".pyi", ".pth", ".so", ".pyd"])


def sha256(path: Path | str) -> str:
    """Return the SHA-256 digest of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Execution:
    """The execution of a user's Python file; created by `executing`."""

    def __init__(self, path: Path):
        self.path = Path(os.path.abspath(path))
        self.name = f"evosearch_own_{self.path.stem}"
        self.modules = {self.name}
        """Names of the modules imported from the file's folder, and of the file's own module."""
        self.folders = _with_real_paths(
            [os.path.dirname(self.path), os.path.dirname(os.path.realpath(path))]
        )
        """The folder of the file and, if it is a link, the folder of its target."""
        self._libraries = self._roots_without_file(_library_roots())
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._files_of_loaded_tasks: dict[str, str] = {}
        self._checked: set[CodeType] = set()

    def run(self) -> ModuleType:
        """Execute the file and return it as a module."""
        loader = _SourceLoader(self.name, str(self.path))
        spec = spec_from_file_location(self.name, self.path, loader=loader)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[self.name] = module  # dataclasses look up their module
        spec.loader.exec_module(module)
        return module

    def includes(self, path: str) -> bool:
        """Return whether `path` is inside the file's folder, and not in a library."""
        return _is_within(path, self.folders) and not self.is_in_library(path)

    def is_in_library(self, path: str) -> bool:
        """Return whether `path` belongs to Python, an installed package or this project.

        A library that contains the executed file is ignored.
        """
        return _is_within(path, self._libraries)

    def record_loaded_task(self, files: Files) -> None:
        """Record the files, with digests, of another task that the file loaded."""
        self._files_of_loaded_tasks.update(files)

    def record_open(self, name: Any, flags: int) -> None:
        """Record that a file is opened."""
        if isinstance(name, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(name))
            (self._written if flags & _WRITE_FLAGS else self._read).add(path)

    def check_source(self, name: str, source: bytes) -> None:
        """Raise the audit event for `source`, the content of the file `name`; record the file."""
        path = os.path.abspath(name)
        if path == str(self.path) or self.includes(path):
            sys.audit(EXECUTE, path, str(self.path), hashlib.sha256(source).hexdigest())
            self._read.add(path)

    def mark_checked(self, code: CodeType) -> None:
        """Remember that `code` was compiled from a source that passed `check_source`."""
        self._checked.add(code)

    def check_code(self, code: CodeType) -> None:
        """Raise the audit event for `code` unless its source was checked, and record its file."""
        path = os.path.abspath(code.co_filename)
        if code not in self._checked and os.path.isfile(path) and self.includes(path):
            sys.audit(EXECUTE, path, str(self.path), None)
            self._read.add(path)

    def files(self) -> Files:
        """Return the files that were read, with digests; the Python file is first.

        Libraries, caches, system files and files that the execution wrote are excluded.
        """
        digests = dict(self._files_of_loaded_tasks)
        caches = self._roots_without_file(_cache_roots())
        system = self._roots_without_file(_system_roots())
        for path in self._read - self._written:
            if self._is_dependency(path, caches, system) and os.path.isfile(path):
                digests[path] = sha256(path)
        python_file = str(self.path)
        first = (python_file, digests.pop(python_file, "") or sha256(python_file))
        return (first, *sorted(digests.items()))

    def _is_dependency(self, path: str, caches: tuple[str, ...], system: tuple[str, ...]) -> bool:
        parts = Path(path).parts
        is_metadata = any(part.endswith((".dist-info", ".egg-info")) for part in parts)
        if "__pycache__" in parts or is_metadata or _is_within(path, (*caches, *self._libraries)):
            return False
        if _is_within(path, self.folders):
            return True
        return not _is_within(path, system) and Path(path).suffix not in _CODE_SUFFIXES

    def _roots_without_file(self, roots: tuple[str, ...]) -> tuple[str, ...]:
        """Return the roots that do not contain the executed file."""
        return tuple(root for root in roots if not _is_within(str(self.path), (root,)))


@contextmanager
def executing(path: Path) -> Iterator[Execution]:
    """Prepare the process to execute the Python file at `path`, and restore it afterwards."""
    with _LOCK:
        _install_audit_hook()
        execution = Execution(path)
        finder = _SiblingFinder(execution)
        search_path, before = list(sys.path), dict(sys.modules)
        hidden = _shadowing_modules(finder, before)
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
                if before.get(name) is not module and execution.includes(_module_path(module)):
                    del sys.modules[name]
            sys.modules.update(hidden)


@contextmanager
def _restored_process() -> Iterator[None]:
    """Restore the working directory and the recursion limit on exit."""
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # the directory has been removed
        directory = None
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        if directory is not None:
            os.chdir(directory)


def record_loaded_task(files: Files) -> None:
    """Record a loaded task's files as dependencies of every Python file being executed."""
    for execution in _ACTIVE:
        execution.record_loaded_task(files)


class _SourceLoader(SourceFileLoader):
    """A loader that always compiles the source, because cached bytecode may be stale."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        for execution in tuple(_ACTIVE):
            execution.check_source(path, source)
        code: CodeType = self.source_to_code(source, path)
        for execution in tuple(_ACTIVE):
            execution.mark_checked(code)
        return code


class _SiblingFinder(MetaPathFinder):
    """A finder of modules in the file's folder, except names of the standard library."""

    def __init__(self, execution: Execution):
        self.execution = execution

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None and fullname in sys.stdlib_module_names:
            return None
        folders = [*self.execution.folders, *sys.path] if path is None else path
        for folder in map(os.path.abspath, folders):
            file_in_folder = os.path.join(folder, "module.py")  # any file name will do
            if not self.execution.includes(file_in_folder):
                continue
            spec = FileFinder(folder, (_SourceLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is None or (spec.loader is None and PathFinder.find_spec(fullname, path)):
                continue  # a regular module elsewhere precedes a namespace package
            self.execution.modules.add(fullname)
            return spec
        return None


def _shadowing_modules(
    finder: _SiblingFinder, modules: dict[str, ModuleType]
) -> dict[str, ModuleType]:
    """Return the loaded modules whose names hide modules of the file's folder."""
    top_names = {name.partition(".")[0] for name in modules} - {
        "__main__",
        *sys.stdlib_module_names,
    }
    shadowing = {
        name
        for name in top_names
        if name in modules
        and not finder.execution.is_in_library(_module_path(modules[name]))
        and finder.find_spec(name, None) is not None
    }
    return {name: module for name, module in modules.items() if name.partition(".")[0] in shadowing}


def _module_path(module: ModuleType) -> str:
    """Return the file or folder that a module was loaded from; "" if there is none."""
    file = getattr(module, "__file__", None)
    if file is None:  # a namespace package has only folders
        file = next(iter(getattr(module, "__path__", None) or ()), "")
    return os.path.abspath(file) if isinstance(file, str) and file else ""


_LOCK = threading.RLock()
_ACTIVE: list[Execution] = []
"""The executions in progress; a task file may load another task file."""


@cache
def _install_audit_hook() -> None:
    """Install the audit hook once; it does nothing unless a file is being executed."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _ACTIVE:
        return
    if event == "open":
        for execution in tuple(_ACTIVE):
            execution.record_open(arguments[0], arguments[2])
    elif event == "exec" and isinstance(arguments[0], CodeType):
        for execution in tuple(_ACTIVE):
            execution.check_code(arguments[0])


def _is_within(path: str, roots: tuple[str, ...]) -> bool:
    """Return whether `path`, as written or with links followed, is one of `roots` or inside one."""
    paths = {path, os.path.realpath(path)} if path else set()
    starts = tuple(root.rstrip(os.sep) + os.sep for root in roots)
    return any(path in roots or path.startswith(starts) for path in paths)


def _with_real_paths(folders: Iterable[str | None]) -> tuple[str, ...]:
    """Return absolute paths of `folders`, as written and with links followed."""
    written = [os.path.abspath(os.path.expanduser(folder)) for folder in folders if folder]
    return tuple(dict.fromkeys([*written, *map(os.path.realpath, written)]))


@cache
def _library_roots() -> tuple[str, ...]:
    """Return the folders of Python, its packages and this project."""
    paths = sysconfig.get_paths()
    home = Path(__file__).parents[2]
    python = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    project = [str(home / package) for package in ("primitives", "proxies", "evosearch")]
    return _with_real_paths([*python, *packages, *project])


def _system_roots() -> tuple[str, ...]:
    """Return the folders of the operating system and the Python environment."""
    return _with_real_paths([sys.prefix, sys.base_prefix, *_SYSTEM])


def _cache_roots() -> tuple[str, ...]:
    """Return the folders where programs keep caches, settings and state."""
    environ = os.environ
    compiled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    cache, settings = environ.get("XDG_CACHE_HOME"), environ.get("XDG_CONFIG_HOME")
    state = environ.get("XDG_STATE_HOME")
    folders = [cache or "~/.cache", settings or "~/.config", state or "~/.local/state", compiled]
    return _with_real_paths(folders)
