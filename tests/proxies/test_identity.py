"""A task's identity: what it was made from, by name, so that an edit is noticed and named."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import proxies
from proxies.identity import ARRAYS, FIELDS
from proxies.user_tasks import execution
from proxies.user_tasks.files import _load

TASK = """
import dataclasses
from pathlib import Path
import numpy as np
import proxies
import helper
from parts import layers

HERE = Path(__file__).parent

def task():
    points = np.load(HERE / "data" / "points.npz")["points"]
    words = (HERE.parent / "words.txt").read_text()
    (HERE / "log.txt").write_text("written, not read")
    return dataclasses.replace(
        proxies.load("quadratic"), split="search", steps=helper.STEPS, data=(points,),
        description=f"{words} {layers.WIDTH}",
    )
"""


def project(folder: Path) -> Path:
    """A task with a sibling, a package, data of its own and a text elsewhere; others beside it."""
    home = folder / "home"
    (home / "parts").mkdir(parents=True)
    (home / "data").mkdir()
    (home / "task.py").write_text(TASK)
    (home / "helper.py").write_text("STEPS = 30\n")
    (home / "parts" / "layers.py").write_text("WIDTH = 3\n")  # no __init__.py
    np.savez(home / "data" / "points.npz", points=np.arange(3.0))
    (folder / "words.txt").write_text("some words")
    (home / "notes.txt").write_text("unrelated")
    (home / "my_optimizer.py").write_text("import nothing_that_exists\n")
    return home / "task.py"


def fresh(path: Path) -> dict[str, str]:
    """The digest of the task in a file, as a new process finds it."""
    _load.cache_clear()
    return proxies.digest(proxies.load(f"{path}:task"))


def test_a_digest_names_every_file_that_made_the_task(tmp_path: Path) -> None:
    task = proxies.load(f"{project(tmp_path)}:task")
    found = proxies.digest(task)
    files = ["task.py", "../words.txt", "data/points.npz", "helper.py", "parts/layers.py"]
    assert sorted(found) == sorted([*files, ARRAYS, FIELDS])
    assert next(iter(found)) == "task.py"
    assert json.loads(json.dumps(found)) == found == proxies.digest(task)
    assert found == fresh(tmp_path / "home" / "task.py")
    # Files are digested as they were loaded, whatever becomes of them.
    (tmp_path / "home" / "helper.py").write_text("STEPS = 31\n")
    assert proxies.digest(task) == found


EDITS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a sibling": (
        lambda home: (home / "helper.py").write_text("STEPS = 40\n"),
        ["helper.py changed", f"{FIELDS} changed"],
    ),
    "a comment in a sibling": (
        lambda home: (home / "helper.py").write_text("STEPS = 30 \n"),
        ["helper.py changed"],
    ),
    "a module of a package": (
        lambda home: (home / "parts" / "layers.py").write_text("WIDTH = 4\n"),
        ["parts/layers.py changed"],
    ),
    "its data": (
        lambda home: np.savez(home / "data" / "points.npz", points=np.arange(3.0) + 1),
        ["data/points.npz changed", f"{ARRAYS} changed"],
    ),
    "a file elsewhere": (
        lambda home: (home.parent / "words.txt").write_text("other words"),
        ["../words.txt changed"],
    ),
    "the task itself": (
        lambda home: (home / "task.py").write_text(TASK.replace("import helper", "import helper ")),
        ["task.py changed"],
    ),
    "a file that is no longer read": (
        lambda home: (home / "task.py").write_text(
            TASK.replace('(HERE.parent / "words.txt").read_text()', '""')
        ),
        ["task.py changed", "../words.txt is no longer read"],
    ),
    "another file in the folder": (lambda home: (home / "notes.txt").write_text("edited"), []),
    "an optimizer in the folder": (lambda home: (home / "my_optimizer.py").unlink(), []),
    "what the task wrote": (lambda home: (home / "log.txt").write_text("edited"), []),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_named_and_unrelated_files_do_not_count(tmp_path: Path, edit: str) -> None:
    path = project(tmp_path)
    before = fresh(path)
    change, expected = EDITS[edit]
    change(path.parent)
    assert proxies.differences(before, fresh(path)) == expected


def test_a_project_that_moves_as_a_whole_stays_the_same(tmp_path: Path) -> None:
    before = fresh(project(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert fresh(tmp_path / "there" / "home" / "task.py") == before


def test_a_task_made_from_another_ones_file_depends_on_it(tmp_path: Path) -> None:
    """Whether or not the other one is in memory already."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "table.npz", x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    path = tmp_path / "task.py"
    path.write_text(
        "import dataclasses, proxies\n"
        f"def task(): return dataclasses.replace(proxies.load({str(tmp_path / 'table.npz')!r}))\n"
    )
    found = fresh(path)
    assert set(found) == {"task.py", "table.npz", ARRAYS, FIELDS}
    _load.cache_clear()
    proxies.load(str(tmp_path / "table.npz"))
    assert proxies.digest(proxies.load(f"{path}:task")) == found


def test_of_arrays_and_texts_the_file_is_digested(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "table.npz"
    np.savez(path, x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    before = proxies.digest(proxies.load(str(path)))
    assert set(before) == {"table.npz", FIELDS}
    np.savez(path, x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    _load.cache_clear()
    found = proxies.digest(proxies.load(str(path)))
    assert proxies.differences(before, found) == ["table.npz changed"]


def test_a_bundled_tasks_digest_is_of_its_arrays_and_settings() -> None:
    task = proxies.load("digits-mlp")
    before = proxies.digest(task)
    assert set(before) == {ARRAYS, FIELDS}
    assert len({proxies.digest(proxies.load(name))[ARRAYS] for name in proxies.names("search")}) > 4
    longer = dataclasses.replace(task, steps=task.steps + 1)
    assert proxies.differences(before, proxies.digest(longer)) == [f"{FIELDS} changed"]
    x, *rest = jax.tree.leaves(task.data)
    flipped = np.array(x)
    flipped.reshape(-1)[-1] += 1
    data = jax.tree.unflatten(jax.tree.structure(task.data), [flipped, *rest])
    edited = dataclasses.replace(task, data=data)
    assert proxies.differences(before, proxies.digest(edited)) == [f"{ARRAYS} changed"]


@pytest.mark.parametrize(
    "leaf", [np.float32(2), 3, 0.5, jax.random.key(1), np.zeros((0, 2)), np.ones(3, bool)[::-1]]
)
def test_whatever_arrays_data_holds_they_have_a_digest(leaf: object) -> None:
    task = dataclasses.replace(proxies.load("quadratic"), data={"a": leaf})
    other = dataclasses.replace(task, data={"b": leaf})
    assert proxies.digest(task)[ARRAYS] != proxies.digest(other)[ARRAYS]


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "task.py"


NAMED = """
import dataclasses, proxies, helper
def task():
    return dataclasses.replace(
        proxies.load("quadratic"), split="search", description=helper.NAME)
"""


def described(path: Path) -> str:
    return proxies.load(f"{path}:task").description


def test_equally_named_siblings_of_two_tasks_are_not_mixed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one", {"task.py": NAMED, "helper.py": "NAME = 'one'\n"})
    two = write(tmp_path / "two", {"task.py": NAMED, "helper.py": "NAME = 'two'\n"})
    elsewhere = write(tmp_path / "elsewhere", {"helper.py": "NAME = 'elsewhere'\n"}).parent
    monkeypatch.syspath_prepend(elsewhere)
    import helper  # type: ignore[import-not-found]

    before = list(sys.path), list(sys.meta_path), set(sys.modules)
    assert described(one) == "one"
    assert described(two) == "two"
    assert (list(sys.path), list(sys.meta_path)) == before[:2]
    assert not [name for name in set(sys.modules) - before[2] if "helper" in name or "own" in name]
    assert sys.modules["helper"] is helper
    del sys.modules["helper"]


def test_a_failed_load_leaves_nothing_behind(tmp_path: Path) -> None:
    files = {"task.py": NAMED, "helper.py": "import sys; sys.path.insert(0, 'x'); 1 / 0\n"}
    path = write(tmp_path / "broken", files)
    before = list(sys.path), list(sys.meta_path)
    with pytest.raises(proxies.UserTaskError, match=r"ZeroDivisionError in line 1 of helper\.py"):
        proxies.load(f"{path}:task")
    assert (list(sys.path), list(sys.meta_path)) == before
    assert "helper" not in sys.modules
    assert not execution._ACTIVE


def test_siblings_do_not_replace_the_standard_library_or_what_is_installed(tmp_path: Path) -> None:
    files = {"task.py": "import random, numpy\n" + NAMED, "helper.py": "NAME = 'found'\n"}
    files |= {"random.py": "1 / 0\n", "numpy.py": "1 / 0\n", "proxies/__init__.py": "1 / 0\n"}
    assert described(write(tmp_path / "shadows", files)) == "found"


def test_packages_and_folders_that_a_task_puts_on_the_path_are_its_own(tmp_path: Path) -> None:
    files = {
        "task.py": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\n"
        + NAMED,
        "lib/helper.py": "from pack import NAME\n",
        "pack/__init__.py": "from .inner import NAME\n",
        "pack/inner.py": "from pack.other import NAME\n",
        "pack/other.py": "NAME = 'packed'\n",
    }
    path = write(tmp_path / "packs", files)
    assert described(path) == "packed"
    found = proxies.digest(proxies.load(f"{path}:task"))
    assert set(files) == set(found) - {ARRAYS, FIELDS}


def test_stale_bytecode_is_not_what_runs(tmp_path: Path) -> None:
    """Python takes bytecode whose source has its size and its second."""
    import py_compile

    path = write(tmp_path / "stale", {"task.py": NAMED, "helper.py": "NAME = 'old'\n"})
    helper = path.parent / "helper.py"
    py_compile.compile(str(helper))
    stat = os.stat(helper)
    helper.write_text("NAME = 'new'\n")
    os.utime(helper, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert described(path) == "new"


def test_a_dataclass_with_deferred_annotations_can_be_defined(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + NAMED
    text += "@dataclass\nclass Sizes:\n    width: int = 3\n"
    path = write(tmp_path / "classes", {"task.py": text, "helper.py": "NAME = 'defined'\n"})
    assert described(path) == "defined"


def test_a_link_to_a_task_finds_the_siblings_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "real", {"task.py": NAMED, "helper.py": "NAME = 'linked'\n"})
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "task.py").symlink_to(path)
    assert described(tmp_path / "link" / "task.py") == "linked"
    assert "../real/helper.py" in proxies.digest(proxies.load(f"{tmp_path}/link/task.py:task"))


def test_caches_libraries_and_what_jax_compiles_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "made.txt").write_text("made again if need be")
    text = "import jax, os, wave, sklearn\nimport jax.numpy as jnp\n"
    text += f"open({str(tmp_path / 'cache' / 'made.txt')!r}).close()\n"
    text += (
        "open(os.__file__).close(); open(sklearn.__file__).close(); open('/etc/passwd').close()\n"
    )
    text += "jax.jit(lambda x: jnp.sin(x) + 7)(1.0)\n"
    path = write(tmp_path / "home", {"task.py": text + NAMED, "helper.py": "NAME = 'x'\n"})
    assert set(fresh(path)) == {"task.py", "helper.py", ARRAYS, FIELDS}
