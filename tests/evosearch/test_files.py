"""Tests that files are written atomically, and that bad paths are refused before any work."""

import ast
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from evosearch import files
from evosearch.errors import EvosearchError, UsageError
from evosearch.files import (
    atomic_write,
    check_writable,
    explain_file_errors,
    read_bytes,
    write_bytes,
    write_text,
)

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_atomically_and_no_temporary_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "not UTF-8: \udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_system_error_is_a_one_line_error() -> None:
    with pytest.raises(EvosearchError, match=r"cannot write /dev/full: No space left on device"):
        write_text(Path("/dev/full"), "text")


def test_writing_to_a_symbolic_link_replaces_the_file_that_the_link_points_to(
    tmp_path: Path,
) -> None:
    path, link = tmp_path / "report.md", tmp_path / "link.md"
    link.symlink_to(path)
    for text in ("created", "replaced"):
        write_text(link, text)
        assert link.is_symlink()
        assert path.read_text() == text
    with pytest.raises(TypeError), atomic_write(link) as file:
        file.write("text in place of bytes")  # type: ignore[arg-type]
    assert path.read_text() == "replaced"
    assert sorted(tmp_path.iterdir()) == [link, path]


def test_bytes_are_written_atomically(tmp_path: Path) -> None:
    write_bytes(tmp_path / "picture.png", b"\x89PNG\r\n")
    assert (tmp_path / "picture.png").read_bytes() == b"\x89PNG\r\n"
    with atomic_write(tmp_path / "picture.png") as file:
        file.write(b"one ")
        file.write(b"two")
        assert (tmp_path / "picture.png").read_bytes() == b"\x89PNG\r\n"
    assert (tmp_path / "picture.png").read_bytes() == b"one two"


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_same_mode_as_a_file_written_by_pathlib(
    tmp_path: Path, mask: int, expected: int
) -> None:
    original_mask = os.umask(mask)
    try:
        write_text(tmp_path / "evosearch.md", "text")
        (tmp_path / "pathlib.md").write_text("text")
    finally:
        os.umask(original_mask)
    for name in ("evosearch.md", "pathlib.md"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == expected


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o664])
def test_a_replaced_file_and_its_temporary_file_have_the_mode_of_the_original_file(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    path.chmod(mode)
    with atomic_write(path) as file:
        file.write(b"new")
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_names_of_temporary_files_are_unique_and_short(tmp_path: Path) -> None:
    names = set()
    for _ in range(50):
        with atomic_write(tmp_path / "report.md"):
            names |= {path.name for path in tmp_path.iterdir()} - {"report.md"}
    assert len(names) == 50
    assert all(len(name) < 50 for name in names)


def test_a_file_can_have_the_longest_name_that_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_text(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "directory"])
def test_a_file_with_the_name_of_the_temporary_file_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The test fixes the random part of the temporary file's name, as if an attacker guessed it."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "guessed")
    target_of_link, existing = tmp_path / "target", tmp_path / ".evosearch-guessed.tmp"
    target_of_link.write_text("original")
    if kind == "file":
        existing.write_text("original")
    elif kind == "directory":
        existing.mkdir()
    else:
        existing.symlink_to(target_of_link if kind == "link" else tmp_path / "missing")
    paths_before = sorted(tmp_path.iterdir())
    with pytest.raises(EvosearchError, match=r"cannot write .*report\.md: File exists"):
        write_text(tmp_path / "report.md", "text")
    assert sorted(tmp_path.iterdir()) == paths_before
    assert target_of_link.read_text() == "original"
    if kind == "file":
        assert existing.read_text() == "original"


def test_the_content_is_synced_before_the_rename_and_the_directory_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original_fsync, original_replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        is_directory = stat.S_ISDIR(status.st_mode)
        calls.append("sync directory" if is_directory else f"sync {status.st_size} bytes")
        original_fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        original_replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_text(tmp_path / "report.md", "12345")
    assert calls == ["sync 5 bytes", "rename", "sync directory"]
    calls.clear()
    write_text(tmp_path / "report.md", "1234567", durable=False)
    assert calls == ["rename"]
    assert (tmp_path / "report.md").read_text() == "1234567"


@pytest.mark.parametrize("call", ["open", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_any_failure_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, failure: BaseException
) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr(os, call, fail)
    expected = EvosearchError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


MODULES_THAT_WRITE_DIRECTLY = {
    "evosearch/files.py",
    "evosearch/runs/journal.py",  # appends lines to the log
}
"""Modules that may write files without the functions of `evosearch.files`."""


def writes_directly(source: str) -> bool:
    """Whether a module's source calls `Path.write_text`, `Path.write_bytes` or `open` to write."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            is_method = isinstance(node.func, ast.Attribute)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("write_text", "write_bytes") and is_method:
                return True
            constants = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
            modes = [set(constant) for constant in constants if set(constant) <= set("rwxabt+")]
            if name == "open" and any(mode & set("wax+") for mode in modes):
                return True
    return False


def test_modules_write_files_only_through_the_functions_of_evosearch_files() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "evosearch").rglob("*.py")
        if writes_directly(path.read_text(encoding="utf-8"))
    }
    assert modules <= MODULES_THAT_WRITE_DIRECTLY


def test_calls_that_write_files_directly_are_recognized() -> None:
    assert writes_directly("path.write_text(x)")
    assert writes_directly("with path.open('w') as file: pass")
    assert not writes_directly("write_text(path, x)\nopen(path, 'rb')")


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "missing"])
def test_reading_a_path_that_is_not_a_regular_file_is_an_error_at_once(
    tmp_path: Path, kind: str
) -> None:
    """Opening a pipe would wait until another process writes to the pipe."""
    path = tmp_path / "<unknown>"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    messages: list[str] = []

    def read() -> None:
        with pytest.raises(UsageError) as caught:
            read_bytes(path, 100)
        messages.append(str(caught.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=30)
    (message,) = messages
    assert message.startswith(f"cannot read {path}: ")


def test_a_file_is_read_up_to_the_maximum_size(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1000)
    assert read_bytes(tmp_path / "large", 10) == b"x" * 10


def test_text_that_is_not_utf_8_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "best.txt"
    path.write_bytes(b"def train(w, g):\xff")
    expected = r"best\.txt is damaged \(not UTF-8 at byte 16\)"
    with pytest.raises(EvosearchError, match=expected), explain_file_errors(path):
        path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "message"), [(".", "it is a directory"), ("no/x", "create it")])
def test_unwritable_paths_are_errors(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_writable(tmp_path / name)


@pytest.mark.parametrize(
    "command",
    [
        "show lion -o no/lion.svg",
        "show lion --as behaviour -o no/lion.svg",
        "export lion --to optax -o no/lion.py",
        "simplify lion -o no/lion.txt",
        "eval lion --task digits-mlp -o no/report.md",
    ],
)
def test_commands_refuse_unwritable_paths_before_any_work(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*command.split())
    assert result.status == 2
    path = command.split()[-1]
    expected = f"evosearch: cannot write {path}: no is not a directory; create it first\n"
    assert result.err == expected
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "show lion -o gitignore",
        "show lion --as graph -o gitignore.svg",
        "show lion -o gitignore.png",
        "export lion --to optax -o gitignore",
        "simplify sgd --algebra-only -o gitignore",
        "eval lion --task quadratic --steps 5 --seeds 2 --lrs 1,4 -o gitignore.md -o gitignore.svg",
    ],
)
def test_writing_a_file_does_not_change_the_hidden_file_with_a_dot_before_its_name(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {argument for argument in command.split() if argument.startswith("gitignore")}
    hidden_names = {f".{name}" for name in names}
    for name in hidden_names:
        Path(name).write_text("original")
    result = run(*command.split())
    assert result.status == 0, result.err
    assert all(Path(name).read_text() == "original" for name in hidden_names)
    assert all(Path(name).stat().st_size > 10 for name in names)
    ledger = "evaluations.db"
    existing = {path.name for path in tmp_path.iterdir() if not path.name.startswith(ledger)}
    assert existing == names | hidden_names
