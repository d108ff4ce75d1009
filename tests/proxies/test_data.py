"""The data sources, their fixed parts, and the registry of tasks."""

import gzip
import itertools
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import proxies
from proxies import UnknownTaskError, data, registry
from proxies.identity import ARRAYS
from tests.proxies import digests

ROOT = Path(proxies.__file__).parents[1]
SOURCES = [source() for source in data.SOURCES.values()]
PART_FRACTIONS: dict[data.Part, float] = {"search": 0.5, "validation": 0.2, "held-out": 0.3}

TASKS_WITHOUT_DATA = [name for name in proxies.names() if proxies.load(name).source == "none"]

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@each_source
def test_the_parts_are_disjoint_and_cover_the_source(source: data.Source) -> None:
    parts = {part: source.part(part) for part in data.PARTS}
    assert sum(len(arrays[0]) for arrays in parts.values()) == len(source.groups)
    for part, arrays in parts.items():
        rows = np.array([source.part_of(group) == part for group in source.groups])
        for array, all_rows in zip(arrays, source.arrays, strict=True):
            assert np.array_equal(array, all_rows[rows])


@each_source
def test_every_part_has_about_its_fraction_of_the_items(source: data.Source) -> None:
    for part, fraction in PART_FRACTIONS.items():
        assert len(source.part(part)[0]) / len(source.groups) == pytest.approx(fraction, abs=0.15)


def test_the_parts_of_the_data_never_change() -> None:
    digits, topics = data.digits(), data.topics()
    parts = [digits.part_of(str(index)) for index in range(len(digits.groups))]
    assert [parts.index(part) for part in data.PARTS] == [0, 13, 9]
    assert [topics.part_of(topic) for topic in ("lambda", "class", "with")] == [
        "search",
        "validation",
        "search",
    ]


def test_the_parts_of_the_text_share_almost_no_passage() -> None:
    length = 64
    passages = {}
    for part in data.PARTS:
        (blocks,) = data.topics().part(part)
        text = blocks.tobytes()
        passages[part] = {text[i : i + length] for i in range(len(text) - length)}
    held_out = passages["held-out"]
    assert len(held_out & passages["search"]) < 0.005 * len(held_out)
    assert len(held_out & passages["validation"]) < 0.005 * len(held_out)


def test_the_alphabet_has_64_characters_and_covers_the_text() -> None:
    assert len(data.ALPHABET) == len(set(data.ALPHABET)) == 64
    (blocks,) = data.topics().arrays
    assert blocks.max() < 64
    assert np.mean(blocks == data.ALPHABET.index(data.OTHER)) < 0.01


def test_sources_and_tasks_have_the_recorded_digests() -> None:
    """They are the same with every version of Python and of the libraries."""
    current, recorded = digests.current(), digests.recorded()
    for table in (current, recorded):
        for name, parts in table["tasks"].items():
            if name.startswith("tumours"):  # cube roots differ between CPUs in the last bit
                del parts[ARRAYS]
    assert current == recorded


def test_the_bundled_files_agree_with_their_origins(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / ".ci" / "sources"))["write"](tmp_path)
    bundled = ROOT / "proxies" / "sources"
    for name, tolerance in (("digits", 0), ("tumours", 0), ("photos", 4)):  # JPEG decoders differ
        with np.load(tmp_path / f"{name}.npz") as now, np.load(bundled / f"{name}.npz") as before:
            assert now.files == before.files
            for key in now.files:
                assert now[key].dtype == before[key].dtype
                np.testing.assert_allclose(now[key] * 1.0, before[key] * 1.0, atol=tolerance)
    if sys.version_info[:3] == (3, 11, 7):
        file = "topics.json.gz"
        assert gzip.decompress((tmp_path / file).read_bytes()) == gzip.decompress(
            (bundled / file).read_bytes()
        )


def test_a_change_of_the_data_changes_the_digest() -> None:
    by_source = proxies.digests()
    assert set(by_source) == set(data.SOURCES)
    assert by_source == proxies.digests()
    assert all(len(digest) == 64 for digest in by_source.values())
    digits = data.digits()
    images, labels = digits.arrays
    changed = images.copy()
    changed[0, 0, 0] += 1
    assert replace(digits, arrays=(changed, labels)).digest() != by_source["digits"]


@each_source
def test_the_parts_share_no_row(source: data.Source) -> None:
    rows = {
        part: {row.tobytes() for row in source.part(part)[0]}  # the inputs, without targets
        for part in data.PARTS
    }
    assert all(rows.values())
    for a, b in itertools.combinations(data.PARTS, 2):
        assert not rows[a] & rows[b]


def _with_changed_other_parts(source: data.Source, part: data.Part) -> data.Source:
    """Return the source with all rows outside `part` changed."""
    outside = [source.part_of(group) != part for group in source.groups]
    arrays = tuple(array.copy() for array in source.arrays)
    for array in arrays:
        array[outside] += 1
    return replace(source, arrays=arrays)


def _all_arrays(task: proxies.Task) -> list[np.ndarray]:
    """Return the arrays in the task's data and in the closures of its functions."""

    def first_step(data: Any, key: jax.Array) -> Any:
        params, partition = task.init(key), task.partition(data, key)
        batch = task.batch(data, task.sample(partition, key))
        gradient = None if task.gradient is None else task.gradient(params, batch, key)
        loss = task.loss(params, batch, key)
        return loss, gradient, task.evaluate(params, data, partition, key)

    constants = jax.make_jaxpr(first_step)(task.data, jax.random.key(0)).consts
    return [np.asarray(array) for array in (*jax.tree.leaves(task.data), *constants)]


@pytest.mark.parametrize("split", proxies.task.SPLITS)
def test_the_tasks_of_a_split_read_only_its_part(
    split: proxies.task.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "search" if split == "diagnostic" else split
    before = {name: _all_arrays(proxies.load(name)) for name in proxies.names(split)}
    for source in SOURCES:
        changed = _with_changed_other_parts(source, part)
        assert changed.digest() != source.digest()
        monkeypatch.setattr(data, source.name, lambda changed=changed: changed)
    for name, arrays in before.items():
        rebuilt = registry._registered[name][1](name, split)
        for array, now in zip(arrays, _all_arrays(rebuilt), strict=True):
            np.testing.assert_array_equal(array, now, err_msg=name)


@pytest.mark.parametrize(
    ("name", "source"), [("digits-mlp", "digits"), ("digits-finetune", "photos")]
)
def test_the_comparison_of_arrays_detects_a_task_that_reads_another_part(
    name: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = _with_changed_other_parts(data.SOURCES[source](), "search")
    build = registry._registered[name][1]
    arrays = _all_arrays(build(name, "held-out"))
    monkeypatch.setattr(data, source, lambda: changed)
    assert not all(map(np.array_equal, arrays, _all_arrays(build(name, "held-out"))))


@pytest.mark.parametrize("name", proxies.names("search"))
def test_a_search_task_has_validation_tasks_of_10_and_100_times_the_work(name: str) -> None:
    def work(task: proxies.Task) -> int:
        sample = jax.eval_shape(
            lambda key: task.sample(task.partition(task.data, key), key), jax.random.key(0)
        )
        return task.params * task.steps * jax.tree.leaves(sample)[0].size

    small = work(proxies.load(name))
    for times in (10, 100):
        large = proxies.load(f"{name}-{times}x")
        assert large.split == "validation"
        assert large.params != proxies.load(name).params
        assert work(large) / small == pytest.approx(times, rel=0.15)


def test_tasks_without_data_are_diagnostic() -> None:
    assert set(TASKS_WITHOUT_DATA) <= set(proxies.names("diagnostic"))


def test_tasks_are_listed_by_split_and_loaded_once() -> None:
    by_split = [name for split in proxies.task.SPLITS for name in proxies.names(split)]
    assert sorted(by_split) == sorted(proxies.names())
    for name in proxies.names():
        task = proxies.load(name)
        assert task is proxies.load(name)
        assert task.name == name
        assert name in proxies.names(task.split)


def test_the_error_for_an_unknown_name_suggests_similar_names() -> None:
    with pytest.raises(UnknownTaskError, match=r"did you mean .*'digits-mlp'") as raised:
        proxies.load("digit-mlp")
    assert isinstance(raised.value, KeyError)
    with pytest.raises(UnknownTaskError, match="`evosearch tasks` lists all tasks"):
        proxies.load("§")


def test_registering_a_taken_name_or_an_unknown_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="already registered"):
        proxies.register("quadratic", "diagnostic")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        proxies.register("new", "test")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["topics-transformer", "photos-denoise"])
def test_the_diagnostic_split_is_an_error_for_tasks_with_data(family: str) -> None:
    with pytest.raises(ValueError, match="no diagnostic part"):
        registry._registered[family][1](family, "diagnostic")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (305, "three hundred five"),
        (4721, "four thousand seven hundred twenty-one"),
        (9000, "nine thousand"),
    ],
)
def test_numbers_are_spelled_in_english(number: int, words: str) -> None:
    assert data.spell(number) == words
    digits, codes = (array[number] for array in data.numbers().arrays)
    assert int("".join(map(str, digits))) == number
    assert "".join(data.SPELLING_ALPHABET[code] for code in codes).rstrip("\0") == words
    assert codes[-1] == 0
