"""Tests of the identity of a task: digests of the task's files, arrays and settings."""

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


def write_project(folder: Path) -> Path:
    """Write a task that imports two modules and reads two files; add unrelated files."""
    home = folder / "home"
    (home / "parts").mkdir(parents=True)
    (home / "data").mkdir()
    (home / "task.py").write_text(TASK)
    (home / "helper.py").write_text("STEPS = 30\n")
    (home / "parts" / "layers.py").write_text("WIDTH = 3\n")  # the package has no __init__.py
    np.savez(home / "data" / "points.npz", points=np.arange(3.0))
    (folder / "words.txt").write_text("some words")
    (home / "notes.txt").write_text("unrelated")
    (home / "my_optimizer.py").write_text("import nothing_that_exists\n")
    return home / "task.py"


def fresh_digest(path: Path) -> dict[str, str]:
    """Return the digest of the task in a file, as a new process computes it."""
    _load.cache_clear()
    return proxies.digest(proxies.load(f"{path}:task"))


def test_a_digest_names_every_file_that_made_the_task(tmp_path: Path) -> None:
    task = proxies.load(f"{write_project(tmp_path)}:task")
    digest = proxies.digest(task)
    files = ["task.py", "../words.txt", "data/points.npz", "helper.py", "parts/layers.py"]
    assert sorted(digest) == sorted([*files, ARRAYS, FIELDS])
    assert next(iter(digest)) == "task.py"
    assert json.loads(json.dumps(digest)) == digest == proxies.digest(task)
    assert digest == fresh_digest(tmp_path / "home" / "task.py")
    # Files are digested when the task is loaded; later edits do not count.
    (tmp_path / "home" / "helper.py").write_text("STEPS = 31\n")
    assert proxies.digest(task) == digest


EDITS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "an imported module": (
        lambda home: (home / "helper.py").write_text("STEPS = 40\n"),
        ["helper.py changed", f"{FIELDS} changed"],
    ),
    "a space in an imported module": (
        lambda home: (home / "helper.py").write_text("STEPS = 30 \n"),
        ["helper.py changed"],
    ),
    "a module of a package": (
        lambda home: (home / "parts" / "layers.py").write_text("WIDTH = 4\n"),
        ["parts/layers.py changed"],
    ),
    "a data file": (
        lambda home: np.savez(home / "data" / "points.npz", points=np.arange(3.0) + 1),
        ["data/points.npz changed", f"{ARRAYS} changed"],
    ),
    "a file elsewhere": (
        lambda home: (home.parent / "words.txt").write_text("other words"),
        ["../words.txt changed"],
    ),
    "the task file": (
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
    "a file that the task wrote": (lambda home: (home / "log.txt").write_text("edited"), []),
}


@pytest.mark.parametrize("edit", EDITS)
def test_differences_name_edited_files_and_ignore_unrelated_ones(tmp_path: Path, edit: str) -> None:
    path = write_project(tmp_path)
    before = fresh_digest(path)
    change, expected = EDITS[edit]
    change(path.parent)
    assert proxies.differences(before, fresh_digest(path)) == expected


def test_moving_a_project_keeps_the_digest(tmp_path: Path) -> None:
    before = fresh_digest(write_project(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert fresh_digest(tmp_path / "there" / "home" / "task.py") == before


def test_a_task_that_loads_another_task_depends_on_the_other_tasks_file(tmp_path: Path) -> None:
    """The digest is the same if the other task was loaded before."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "table.npz", x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    path = tmp_path / "task.py"
    path.write_text(
        "import dataclasses, proxies\n"
        f"def task(): return dataclasses.replace(proxies.load({str(tmp_path / 'table.npz')!r}))\n"
    )
    digest = fresh_digest(path)
    assert set(digest) == {"task.py", "table.npz", ARRAYS, FIELDS}
    _load.cache_clear()
    proxies.load(str(tmp_path / "table.npz"))
    assert proxies.digest(proxies.load(f"{path}:task")) == digest


def test_the_digest_of_an_npz_task_covers_the_file_and_not_the_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "table.npz"
    np.savez(path, x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    before = proxies.digest(proxies.load(str(path)))
    assert set(before) == {"table.npz", FIELDS}
    np.savez(path, x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    _load.cache_clear()
    digest = proxies.digest(proxies.load(str(path)))
    assert proxies.differences(before, digest) == ["table.npz changed"]


def test_the_digest_of_a_bundled_task_covers_arrays_and_settings() -> None:
    task = proxies.load("digits-mlp")
    before = proxies.digest(task)
    assert set(before) == {ARRAYS, FIELDS}
    assert len({proxies.digest(proxies.load(name))[ARRAYS] for name in proxies.names("search")}) > 4
    longer = dataclasses.replace(task, steps=task.steps + 1)
    assert proxies.differences(before, proxies.digest(longer)) == [f"{FIELDS} changed"]
    x, *rest = jax.tree.leaves(task.data)
    changed_array = np.array(x)
    changed_array.reshape(-1)[-1] += 1
    data = jax.tree.unflatten(jax.tree.structure(task.data), [changed_array, *rest])
    edited = dataclasses.replace(task, data=data)
    assert proxies.differences(before, proxies.digest(edited)) == [f"{ARRAYS} changed"]


@pytest.mark.parametrize(
    "leaf", [np.float32(2), 3, 0.5, jax.random.key(1), np.zeros((0, 2)), np.ones(3, bool)[::-1]]
)
def test_any_array_in_the_data_has_a_digest(leaf: object) -> None:
    task = dataclasses.replace(proxies.load("quadratic"), data={"a": leaf})
    other = dataclasses.replace(task, data={"b": leaf})
    assert proxies.digest(task)[ARRAYS] != proxies.digest(other)[ARRAYS]


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "task.py"


TASK_WITH_HELPER = """
import dataclasses, proxies, helper
def task():
    return dataclasses.replace(
        proxies.load("quadratic"), split="search", description=helper.NAME)
"""


def description_of(path: Path) -> str:
    return proxies.load(f"{path}:task").description


def test_two_tasks_can_have_different_modules_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'one'\n"})
    two = write(tmp_path / "two", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'two'\n"})
    elsewhere = write(tmp_path / "elsewhere", {"helper.py": "NAME = 'elsewhere'\n"}).parent
    monkeypatch.syspath_prepend(elsewhere)
    import helper  # type: ignore[import-not-found]

    before = list(sys.path), list(sys.meta_path), set(sys.modules)
    assert description_of(one) == "one"
    assert description_of(two) == "two"
    assert (list(sys.path), list(sys.meta_path)) == before[:2]
    assert not [name for name in set(sys.modules) - before[2] if "helper" in name or "own" in name]
    assert sys.modules["helper"] is helper
    del sys.modules["helper"]


def test_a_failed_load_restores_the_process(tmp_path: Path) -> None:
    files = {
        "task.py": TASK_WITH_HELPER,
        "helper.py": "import sys; sys.path.insert(0, 'x'); 1 / 0\n",
    }
    path = write(tmp_path / "broken", files)
    before = list(sys.path), list(sys.meta_path)
    with pytest.raises(proxies.UserTaskError, match=r"ZeroDivisionError in line 1 of helper\.py"):
        proxies.load(f"{path}:task")
    assert (list(sys.path), list(sys.meta_path)) == before
    assert "helper" not in sys.modules
    assert not execution._ACTIVE


def test_siblings_do_not_replace_standard_or_installed_modules(tmp_path: Path) -> None:
    files = {
        "task.py": "import random, numpy\n" + TASK_WITH_HELPER,
        "helper.py": "NAME = 'found'\n",
    }
    files |= {"random.py": "1 / 0\n", "numpy.py": "1 / 0\n", "proxies/__init__.py": "1 / 0\n"}
    assert description_of(write(tmp_path / "shadows", files)) == "found"


def test_packages_and_folders_on_the_path_of_a_task_belong_to_it(tmp_path: Path) -> None:
    files = {
        "task.py": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\n"
        + TASK_WITH_HELPER,
        "lib/helper.py": "from pack import NAME\n",
        "pack/__init__.py": "from .inner import NAME\n",
        "pack/inner.py": "from pack.other import NAME\n",
        "pack/other.py": "NAME = 'packed'\n",
    }
    path = write(tmp_path / "packs", files)
    assert description_of(path) == "packed"
    digest = proxies.digest(proxies.load(f"{path}:task"))
    assert set(files) == set(digest) - {ARRAYS, FIELDS}


def test_stale_bytecode_is_not_executed(tmp_path: Path) -> None:
    """Python accepts cached bytecode if size and modification time of the source match."""
    import py_compile

    path = write(tmp_path / "stale", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'old'\n"})
    helper = path.parent / "helper.py"
    py_compile.compile(str(helper))
    stat = os.stat(helper)
    helper.write_text("NAME = 'new'\n")
    os.utime(helper, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert description_of(path) == "new"


def test_a_task_file_can_define_a_dataclass_with_deferred_annotations(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n" + TASK_WITH_HELPER
    )
    text += "@dataclass\nclass Sizes:\n    width: int = 3\n"
    path = write(tmp_path / "classes", {"task.py": text, "helper.py": "NAME = 'defined'\n"})
    assert description_of(path) == "defined"


def test_a_link_to_a_task_file_imports_siblings_of_its_target(tmp_path: Path) -> None:
    path = write(tmp_path / "real", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'linked'\n"})
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "task.py").symlink_to(path)
    assert description_of(tmp_path / "link" / "task.py") == "linked"
    assert "../real/helper.py" in proxies.digest(proxies.load(f"{tmp_path}/link/task.py:task"))


def test_caches_and_libraries_are_not_part_of_the_digest(
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
    path = write(
        tmp_path / "home", {"task.py": text + TASK_WITH_HELPER, "helper.py": "NAME = 'x'\n"}
    )
    assert set(fresh_digest(path)) == {"task.py", "helper.py", ARRAYS, FIELDS}
