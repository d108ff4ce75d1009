"""Files that a user names are written whole, or refused before any work."""

from pathlib import Path
from typing import Any

import pytest

from evosearch.errors import EvosearchError, UsageError
from evosearch.files import check_writable, write_text


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it\udcff")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_said_in_a_line() -> None:
    with pytest.raises(EvosearchError, match=r"cannot write /dev/full: No space left on device"):
        write_text(Path("/dev/full"), "text")


def test_a_link_stays_one(tmp_path: Path) -> None:
    path, link = tmp_path / "report.md", tmp_path / "link.md"
    link.symlink_to(path)
    write_text(link, "text")
    assert link.is_symlink()
    assert path.read_text() == "text"


@pytest.mark.parametrize(("name", "culprit"), [(".", "it is a directory"), ("no/x", "make it")])
def test_where_nothing_can_be_written_is_said_beforehand(
    tmp_path: Path, name: str, culprit: str
) -> None:
    with pytest.raises(UsageError, match=culprit):
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
def test_commands_refuse_before_any_work(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*command.split())
    assert said.status == 2
    assert said.err == f"evosearch: cannot write {command.split()[-1]}: no is not a directory; " + (
        "make it first\n"
    )
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []
