"""Tests of the digest that identifies a task: it covers the task's files, arrays and settings."""

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
    """Load the task in a file again and return its digest."""
    _load.cache_clear()
    return proxies.digest(proxies.load(f"{path}:task"))


def test_the_digest_has_an_entry_for_every_file_that_a_task_reads(tmp_path: Path) -> None:
    task = proxies.load(f"{write_project(tmp_path)}:task")
    digest = proxies.digest(task)
    files = ["task.py", "../words.txt", "data/points.npz", "helper.py", "parts/layers.py"]
    assert sorted(digest) == sorted([*files, ARRAYS, FIELDS])
    assert next(iter(digest)) == "task.py"
    assert json.loads(json.dumps(digest)) == digest == proxies.digest(task)
    assert digest == fresh_digest(tmp_path / "home" / "task.py")
    # Loading a task computes the digests of its files; later edits do not change them.
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
"""For each case, an edit of the project and the expected differences between the digests."""


@pytest.mark.parametrize("case", EDITS)
def test_differences_list_edited_files_that_the_task_reads(tmp_path: Path, case: str) -> None:
    path = write_project(tmp_path)
    digest_before = fresh_digest(path)
    edit, expected = EDITS[case]
    edit(path.parent)
    assert proxies.differences(digest_before, fresh_digest(path)) == expected


def test_moving_a_project_keeps_the_digest(tmp_path: Path) -> None:
    digest_before = fresh_digest(write_project(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert fresh_digest(tmp_path / "new" / "home" / "task.py") == digest_before


def test_the_digest_of_a_task_covers_the_files_of_tasks_that_it_loads(tmp_path: Path) -> None:
    """The digest does not depend on whether the other task was loaded earlier."""
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
    digest_before = proxies.digest(proxies.load(str(path)))
    assert set(digest_before) == {"table.npz", FIELDS}
    np.savez(path, x=rng.standard_normal((300, 2)), y=rng.standard_normal(300))
    _load.cache_clear()
    digest = proxies.digest(proxies.load(str(path)))
    assert proxies.differences(digest_before, digest) == ["table.npz changed"]


def test_the_digest_of_a_bundled_task_covers_arrays_and_settings() -> None:
    task = proxies.load("digits-mlp")
    digest = proxies.digest(task)
    assert set(digest) == {ARRAYS, FIELDS}
    longer = dataclasses.replace(task, steps=task.steps + 1)
    assert proxies.differences(digest, proxies.digest(longer)) == [f"{FIELDS} changed"]
    array, *other_arrays = jax.tree.leaves(task.data)
    changed_array = np.array(array)
    changed_array.reshape(-1)[-1] += 1
    data = jax.tree.unflatten(jax.tree.structure(task.data), [changed_array, *other_arrays])
    with_changed_array = dataclasses.replace(task, data=data)
    differences = proxies.differences(digest, proxies.digest(with_changed_array))
    assert differences == [f"{ARRAYS} changed"]


def test_search_tasks_with_different_data_have_different_digests_of_their_arrays() -> None:
    digests = {proxies.digest(proxies.load(name))[ARRAYS] for name in proxies.names("search")}
    assert len(digests) > 4


@pytest.mark.parametrize(
    "leaf", [np.float32(2), 3, 0.5, jax.random.key(1), np.zeros((0, 2)), np.ones(3, bool)[::-1]]
)
def test_the_digest_covers_the_names_of_arrays_of_any_type(leaf: object) -> None:
    task = dataclasses.replace(proxies.load("quadratic"), data={"a": leaf})
    renamed = dataclasses.replace(task, data={"b": leaf})
    assert proxies.digest(task)[ARRAYS] != proxies.digest(renamed)[ARRAYS]


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a new folder and return the path of the folder's `task.py`."""
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


def loaded_description(path: Path) -> str:
    """Load the task in a file and return the task's description."""
    return proxies.load(f"{path}:task").description


def test_two_tasks_can_have_different_modules_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading the tasks does not change which module of this name the process has imported."""
    paths = [
        write_files(tmp_path / name, {"task.py": TASK_WITH_HELPER, "helper.py": f"NAME = '{name}'"})
        for name in ("first", "second")
    ]
    imported = write_files(tmp_path / "imported", {"helper.py": "NAME = 'imported'\n"}).parent
    monkeypatch.syspath_prepend(imported)
    import helper  # type: ignore[import-not-found]

    import_settings = list(sys.path), list(sys.meta_path)
    modules_before = set(sys.modules)
    assert [loaded_description(path) for path in paths] == ["first", "second"]
    assert (list(sys.path), list(sys.meta_path)) == import_settings
    new_modules = set(sys.modules) - modules_before
    assert not [name for name in new_modules if "helper" in name or "own" in name]
    assert sys.modules["helper"] is helper
    del sys.modules["helper"]


def test_a_task_that_fails_to_load_leaves_the_import_settings_unchanged(tmp_path: Path) -> None:
    files = {
        "task.py": TASK_WITH_HELPER,
        "helper.py": "import sys; sys.path.insert(0, 'x'); 1 / 0\n",
    }
    path = write_files(tmp_path / "broken", files)
    import_settings = list(sys.path), list(sys.meta_path)
    with pytest.raises(proxies.UserTaskError, match=r"ZeroDivisionError in line 1 of helper\.py"):
        proxies.load(f"{path}:task")
    assert (list(sys.path), list(sys.meta_path)) == import_settings
    assert "helper" not in sys.modules
    assert not execution._ACTIVE


def test_files_beside_a_task_do_not_replace_standard_or_installed_modules(tmp_path: Path) -> None:
    files = {
        "task.py": "import random, numpy\n" + TASK_WITH_HELPER,
        "helper.py": "NAME = 'found'\n",
    }
    files |= {"random.py": "1 / 0\n", "numpy.py": "1 / 0\n", "proxies/__init__.py": "1 / 0\n"}
    assert loaded_description(write_files(tmp_path / "shadows", files)) == "found"


def test_the_digest_covers_packages_and_folders_that_a_task_adds_to_the_path(
    tmp_path: Path,
) -> None:
    files = {
        "task.py": "import sys, os\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\n"
        + TASK_WITH_HELPER,
        "lib/helper.py": "from pack import NAME\n",
        "pack/__init__.py": "from .inner import NAME\n",
        "pack/inner.py": "from pack.other import NAME\n",
        "pack/other.py": "NAME = 'packed'\n",
    }
    path = write_files(tmp_path / "packs", files)
    assert loaded_description(path) == "packed"
    digest = proxies.digest(proxies.load(f"{path}:task"))
    assert set(files) == set(digest) - {ARRAYS, FIELDS}


def test_cached_bytecode_of_an_older_source_is_not_executed(tmp_path: Path) -> None:
    """Python itself would execute the bytecode, because the source has the same size and time."""
    import py_compile

    path = write_files(
        tmp_path / "stale", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'old'\n"}
    )
    helper = path.parent / "helper.py"
    py_compile.compile(str(helper))
    stat = os.stat(helper)
    helper.write_text("NAME = 'new'\n")
    os.utime(helper, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert loaded_description(path) == "new"


def test_a_task_file_can_define_a_dataclass_with_deferred_annotations(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n" + TASK_WITH_HELPER
    )
    text += "@dataclass\nclass Sizes:\n    width: int = 3\n"
    path = write_files(tmp_path / "classes", {"task.py": text, "helper.py": "NAME = 'defined'\n"})
    assert loaded_description(path) == "defined"


def test_a_link_to_a_task_file_imports_files_beside_its_target(tmp_path: Path) -> None:
    path = write_files(
        tmp_path / "real", {"task.py": TASK_WITH_HELPER, "helper.py": "NAME = 'linked'\n"}
    )
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "task.py").symlink_to(path)
    assert loaded_description(tmp_path / "link" / "task.py") == "linked"
    assert "../real/helper.py" in proxies.digest(proxies.load(f"{tmp_path}/link/task.py:task"))


def test_the_digest_does_not_cover_caches_and_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cached.txt").write_text("cached")
    text = "import jax, os, wave, sklearn\nimport jax.numpy as jnp\n"
    text += f"open({str(tmp_path / 'cache' / 'cached.txt')!r}).close()\n"
    text += (
        "open(os.__file__).close(); open(sklearn.__file__).close(); open('/etc/passwd').close()\n"
    )
    text += "jax.jit(lambda x: jnp.sin(x) + 7)(1.0)\n"
    path = write_files(
        tmp_path / "home", {"task.py": text + TASK_WITH_HELPER, "helper.py": "NAME = 'x'\n"}
    )
    assert set(fresh_digest(path)) == {"task.py", "helper.py", ARRAYS, FIELDS}
