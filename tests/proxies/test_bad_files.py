"""Tests that errors about invalid task files name file, fault and remedy in a single line."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import proxies
from proxies import UserTaskError
from proxies.user_tasks import files as task_files

ROWS = np.random.default_rng(0).standard_normal((300, 2))
LABELS = np.arange(300) % 3


def zip_bytes(**members: bytes) -> bytes:
    """Return the bytes of a zip file with members named as in an .npz file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """Return the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz_bytes(**arrays: object) -> bytes:
    """Return the bytes of an .npz file; `x` and `y` have valid default values."""
    buffer = io.BytesIO()
    np.savez(buffer, **{"x": ROWS, "y": LABELS} | arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


VALID = npz_bytes()
WITH_FLIPPED_BIT = bytes([*VALID[:700], VALID[700] ^ 8, *VALID[701:]])
INVALID_NPZ_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a valid .npz file .*not a zip file"),
    "truncated": (VALID[: len(VALID) // 2], "not a valid .npz file"),
    "a flipped bit": (WITH_FLIPPED_BIT, "not a valid .npz file .*Bad CRC"),
    "text": (b"x,y\n1,2\n", "not a valid .npz file"),
    "one array": (npy_bytes(ROWS), "not a valid .npz file"),
    "members that are not arrays": (zip_bytes(x=b"hello", y=b""), "not a valid .npz file"),
    "a wrong shape in a header": (
        zip_bytes(x=npy_bytes(ROWS).replace(b"(300, 2), }", b"(3e9, 2), }"), y=npy_bytes(LABELS)),
        "not a valid .npz file",
    ),
    "more rows than there are": (
        zip_bytes(
            x=npy_bytes(ROWS).replace(b"(300, 2), }  ", b"(9999999, 2), }"), y=npy_bytes(LABELS)
        ),
        "not a valid .npz file",
    ),
    "an empty archive": (
        zip_bytes(),
        "has no arrays, but not x and y; save arrays named x and y",
    ),
    "objects": (
        npz_bytes(x=np.array([[1], "a"] * 150, dtype=object)),
        "Object arrays cannot be",
    ),
    "a number": (
        npz_bytes(x=np.float64(1)),
        "x of .* is a single number; save one row for each example",
    ),
    "a label": (npz_bytes(y=np.int64(1)), "y of .* is a single number"),
    "no rows": (npz_bytes(x=ROWS[:0], y=LABELS[:0]), "x of .* is empty"),
    "no features": (npz_bytes(x=ROWS[:, :0]), "x of .* is empty"),
    "a huge class": (
        npz_bytes(y=LABELS + 10**15),
        "y of .* has the class 1000000000000000, outside 0 to 299",
    ),
    "a negative class": (npz_bytes(y=LABELS - 1), "y of .* has the class -1"),
    "dates": (
        npz_bytes(y=np.arange(300).astype("datetime64[D]")),
        "y of .* has the dtype datetime64",
    ),
    "targets too large": (npz_bytes(y=ROWS * 1e300), "y of .* too large to standardise"),
    "features too large": (npz_bytes(x=ROWS * 1e307), "x of .* too large to standardise"),
}
"""For each case the bytes of the file, and a pattern of the error message."""


@pytest.mark.parametrize("case", INVALID_NPZ_FILES)
def test_the_error_about_an_invalid_npz_file_names_the_file_and_the_fault_in_one_line(
    tmp_path: Path, case: str
) -> None:
    content, expected = INVALID_NPZ_FILES[case]
    path = tmp_path / "table.npz"
    path.write_bytes(content)
    with pytest.raises(UserTaskError, match=expected) as error_info:
        proxies.load(str(path))
    assert str(path) in str(error_info.value)
    assert "\n" not in str(error_info.value)


def test_an_archive_larger_than_half_the_memory_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = np.zeros((4_000_000, 2))
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=zeros, y=zeros[:, 0])
    assert path.stat().st_size < 200_000  # compressed; the arrays have 96 MB
    monkeypatch.setattr(task_files, "_memory", lambda: 150e6)  # bytes
    monkeypatch.setattr(np, "load", lambda *arguments, **options: pytest.fail("unpacked"))
    with pytest.raises(UserTaskError, match=r"bomb\.npz take 0\.1 GiB, more than half"):
        proxies.load(str(path))


@pytest.mark.parametrize("name", ["task.py:task", "table.npz", "notes.txt"])
def test_naming_a_directory_or_a_pipe_is_an_error(tmp_path: Path, name: str) -> None:
    """Reading the pipe would block, so a thread loads the task."""
    path = tmp_path / name.partition(":")[0]
    path.mkdir()
    with pytest.raises(UserTaskError, match="is a directory; name a file"):
        proxies.load(f"{tmp_path}/{name}")
    path.rmdir()
    os.mkfifo(path)
    messages: list[str] = []

    def load() -> None:
        with pytest.raises(UserTaskError) as error_info:
            proxies.load(f"{tmp_path}/{name}")
        messages.append(str(error_info.value))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert messages
    assert f"{path} is not a regular file" in messages[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "has 0 blocks"), (b"\xff\xfe\x00", "not UTF-8"), (b"\x00" * 10, "has 0 blocks")],
)
def test_the_error_about_an_invalid_text_names_the_file(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(UserTaskError, match=rf"notes\.txt.*{expected}"):
        proxies.load(f"{tmp_path}/notes.txt")


VALID_CODE = "import proxies\ndef task():\n    return proxies.load('quadratic')\n"
INVALID_TASK_FILES: dict[str, tuple[str, str]] = {
    "sys.exit": ("import sys\nsys.exit(3)\n", r"calls sys\.exit\(3\) in line 2 of task\.py"),
    "sys.exit in a sibling": (
        "import helper\n",
        r"calls sys\.exit\(None\) in line 1 of helper\.py",
    ),
    "sys.exit with a message": ("raise SystemExit('no\\nno')", r"calls sys\.exit\('no\\nno'\)"),
    "sys.exit in the factory": (
        "def task():\n    raise SystemExit\n",
        r"calls sys\.exit\(None\) in line 2",
    ),
    "GeneratorExit": ("raise GeneratorExit", "failed with GeneratorExit in line 1 of task.py"),
    "BaseException": ("raise BaseException('x')", "failed with BaseException in line 1.*: x"),
    "an exception class of the file": (
        "class Stop(BaseException): pass\nraise Stop('a\\nb')\n",
        r"failed with Stop in line 2 of task\.py: a b",
    ),
    "a syntax error": ("x = 1\ndef task(:\n", r"syntax error in line 2 of .*task\.py"),
    "a syntax error in a sibling": ("import wrong\n", r"syntax error in line 3 of .*wrong\.py"),
    "a failed import": ("import missing_module\n", "failed with ModuleNotFoundError in line 1"),
    "a NUL": ("x = 1\0", r"task\.py.*null bytes"),
    "invalid UTF-8": ("\udcff", r"syntax error.* of .*task\.py"),
    "deep nesting": ("x = " + "(" * 5000 + ")" * 5000, r"task\.py"),
    "a factory that is no function": ("task = 3", "failed with TypeError"),
    "texts as data": (
        VALID_CODE.replace(
            "proxies.load('quadratic')", "replace(proxies.load('quadratic'), data='x')"
        )
        + "from dataclasses import replace\n",
        "Task.data contains str; it must contain arrays of numbers only",
    ),
    "objects as data": (
        "import numpy as np\nfrom dataclasses import replace\n"
        + VALID_CODE.replace(
            "proxies.load('quadratic')",
            "replace(proxies.load('quadratic'), data=np.array([None]))",
        ),
        "Task.data contains objects; it must contain arrays",
    ),
}
"""For each case the text of the file, and a pattern of the error message."""


@pytest.mark.parametrize("case", INVALID_TASK_FILES)
def test_the_error_about_an_invalid_python_file_names_the_file_and_the_fault_in_one_line(
    tmp_path: Path, case: str
) -> None:
    text, expected = INVALID_TASK_FILES[case]
    (tmp_path / "task.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "helper.py").write_text("raise SystemExit")
    (tmp_path / "wrong.py").write_text("\n\nif x\n")
    with pytest.raises(UserTaskError, match=expected) as error_info:
        proxies.load(f"{tmp_path}/task.py:task")
    assert str(tmp_path) in str(error_info.value)
    assert "\n" not in str(error_info.value)


class Interruption(BaseException):
    """An exception that a signal handler for Ctrl-C raises."""


def raise_interruption(number: int, frame: object) -> None:
    raise Interruption


@pytest.mark.parametrize(
    ("handler", "expected"),
    [(signal.default_int_handler, KeyboardInterrupt), (raise_interruption, Interruption)],
)
def test_ctrl_c_while_a_task_is_loaded_is_not_reported_as_an_error_of_the_task(
    tmp_path: Path, handler: Callable[..., object], expected: type[BaseException]
) -> None:
    (tmp_path / "task.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    original_handler = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(expected):
            proxies.load(f"{tmp_path}/task.py:task")
    finally:
        signal.signal(signal.SIGINT, original_handler)


def test_a_keyboard_interrupt_that_a_task_file_raises_is_an_error_of_the_task(
    tmp_path: Path,
) -> None:
    """Ctrl-C cannot have raised it, because the handler for Ctrl-C raises no KeyboardInterrupt."""
    (tmp_path / "task.py").write_text("raise KeyboardInterrupt\n")
    original_handler = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with pytest.raises(UserTaskError, match=r"failed with KeyboardInterrupt in line 1"):
            proxies.load(f"{tmp_path}/task.py:task")
    finally:
        signal.signal(signal.SIGINT, original_handler)


def test_loading_a_task_leaves_standard_output_and_the_process_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the task prints goes to standard error, so that `--json` prints only its document."""
    path = tmp_path / "noisy.py"
    path.write_text(
        "import os, sys, proxies\n"
        "print('noise')\n"
        "os.chdir('/')\n"
        "sys.setrecursionlimit(500)\n"
        "def task():\n"
        "    print('more noise')\n"
        "    sys.stdout = open(os.devnull, 'w')\n"
        "    return proxies.load('digits-mlp')\n"
    )
    process_settings = os.getcwd(), sys.getrecursionlimit(), sys.stdout
    assert proxies.load(f"{path}:task").split == "search"
    assert (os.getcwd(), sys.getrecursionlimit(), sys.stdout) == process_settings
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "noise\nmore noise\n"
