"""Tests of the data sources, their disjoint parts, and the registry of tasks."""

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
        is_in_part = np.array([source.part_of(group) == part for group in source.groups])
        for array, source_array in zip(arrays, source.arrays, strict=True):
            assert np.array_equal(array, source_array[is_in_part])


@each_source
def test_every_part_has_about_its_fraction_of_the_items(source: data.Source) -> None:
    for part, fraction in PART_FRACTIONS.items():
        assert len(source.part(part)[0]) / len(source.groups) == pytest.approx(fraction, abs=0.15)


def test_items_are_in_the_same_parts_as_in_earlier_versions() -> None:
    digits, topics = data.digits(), data.topics()
    parts = [digits.part_of(str(index)) for index in range(len(digits.groups))]
    first_indices = {part: parts.index(part) for part in data.PARTS}
    assert first_indices == {"search": 0, "validation": 13, "held-out": 9}
    assert topics.part_of("lambda") == "search"
    assert topics.part_of("class") == "validation"
    assert topics.part_of("with") == "search"


def test_the_parts_of_the_text_share_almost_no_passage_of_64_characters() -> None:
    length = 64
    passages = {}
    for part in data.PARTS:
        (blocks,) = data.topics().part(part)
        text = blocks.tobytes()
        passages[part] = {text[start : start + length] for start in range(len(text) - length)}
    held_out = passages["held-out"]
    assert len(held_out & passages["search"]) < 0.005 * len(held_out)
    assert len(held_out & passages["validation"]) < 0.005 * len(held_out)


def test_the_alphabet_has_64_characters_and_covers_the_text() -> None:
    assert len(data.ALPHABET) == len(set(data.ALPHABET)) == 64
    (blocks,) = data.topics().arrays
    assert blocks.max() < 64
    assert np.mean(blocks == data.ALPHABET.index(data.OTHER)) < 0.01


def test_sources_and_tasks_have_the_recorded_digests() -> None:
    """The digests do not depend on the versions of Python and of the libraries."""
    current, recorded = digests.current(), digests.recorded()
    for table in (current, recorded):
        for name, parts in table["tasks"].items():
            if name.startswith("tumours"):  # cube roots differ between CPUs in the last bit
                del parts[ARRAYS]
    assert current == recorded


def test_the_script_that_writes_the_bundled_files_writes_them_again(tmp_path: Path) -> None:
    write_sources = runpy.run_path(str(ROOT / ".ci" / "sources"))["write"]
    write_sources(tmp_path)
    bundled_folder = ROOT / "proxies" / "sources"
    tolerances = {"digits": 0, "tumours": 0, "photos": 4}  # pixels of JPEG decoders differ
    for name, tolerance in tolerances.items():
        file = f"{name}.npz"
        with np.load(tmp_path / file) as written, np.load(bundled_folder / file) as bundled:
            assert written.files == bundled.files
            for key in written.files:
                assert written[key].dtype == bundled[key].dtype
                np.testing.assert_allclose(written[key] * 1.0, bundled[key] * 1.0, atol=tolerance)
    if sys.version_info[:3] == (3, 11, 7):  # the text is Python's own documentation
        written_text, bundled_text = (
            gzip.decompress((folder / "topics.json.gz").read_bytes())
            for folder in (tmp_path, bundled_folder)
        )
        assert written_text == bundled_text


def test_a_change_of_the_data_changes_the_digest() -> None:
    by_source = proxies.digests()
    assert set(by_source) == set(data.SOURCES)
    assert by_source == proxies.digests()
    assert all(len(digest) == 64 for digest in by_source.values())
    digits = data.digits()
    images, labels = digits.arrays
    changed_images = images.copy()
    changed_images[0, 0, 0] += 1
    assert replace(digits, arrays=(changed_images, labels)).digest() != by_source["digits"]


@each_source
def test_the_parts_share_no_row(source: data.Source) -> None:
    rows = {}
    for part in data.PARTS:
        inputs, *_ = source.part(part)
        rows[part] = {row.tobytes() for row in inputs}
    assert all(rows.values())
    for first, second in itertools.combinations(data.PARTS, 2):
        assert not rows[first] & rows[second]


def _with_changed_other_parts(source: data.Source, part: data.Part) -> data.Source:
    """Return the source with all rows outside `part` changed."""
    is_outside = [source.part_of(group) != part for group in source.groups]
    arrays = tuple(array.copy() for array in source.arrays)
    for array in arrays:
        array[is_outside] += 1
    return replace(source, arrays=arrays)


def _all_arrays(task: proxies.Task) -> list[np.ndarray]:
    """Return the arrays in the task's data, and the constant arrays in the task's functions."""

    def first_step(data: Any, key: jax.Array) -> Any:
        params, partition = task.init(key), task.partition(data, key)
        batch = task.batch(data, task.sample(partition, key))
        gradient = None if task.gradient is None else task.gradient(params, batch, key)
        loss = task.loss(params, batch, key)
        return loss, gradient, task.evaluate(params, data, partition, key)

    constants = jax.make_jaxpr(first_step)(task.data, jax.random.key(0)).consts
    return [np.asarray(array) for array in (*jax.tree.leaves(task.data), *constants)]


@pytest.mark.parametrize("split", proxies.task.SPLITS)
def test_tasks_do_not_change_if_other_parts_of_their_sources_change(
    split: proxies.task.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "search" if split == "diagnostic" else split
    arrays_by_task = {name: _all_arrays(proxies.load(name)) for name in proxies.names(split)}
    for source in SOURCES:
        changed = _with_changed_other_parts(source, part)
        assert changed.digest() != source.digest()
        monkeypatch.setattr(data, source.name, lambda changed=changed: changed)
    for name, arrays in arrays_by_task.items():
        rebuilt = registry._registered[name][1](name, split)
        for array, rebuilt_array in zip(arrays, _all_arrays(rebuilt), strict=True):
            np.testing.assert_array_equal(array, rebuilt_array, err_msg=name)


@pytest.mark.parametrize(
    ("name", "source"), [("digits-mlp", "digits"), ("digits-finetune", "photos")]
)
def test_a_held_out_task_changes_if_the_held_out_part_of_its_source_changes(
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
        """Return the number of weights times steps times examples in a batch."""
        sample = jax.eval_shape(
            lambda key: task.sample(task.partition(task.data, key), key), jax.random.key(0)
        )
        return task.params * task.steps * jax.tree.leaves(sample)[0].size

    search_task = proxies.load(name)
    for factor in (10, 100):
        larger = proxies.load(f"{name}-{factor}x")
        assert larger.split == "validation"
        assert larger.params != search_task.params
        assert work(larger) / work(search_task) == pytest.approx(factor, rel=0.15)


def test_tasks_without_data_are_diagnostic() -> None:
    assert set(TASKS_WITHOUT_DATA) <= set(proxies.names("diagnostic"))


def test_each_task_is_in_one_split_and_is_loaded_once() -> None:
    names = [name for split in proxies.task.SPLITS for name in proxies.names(split)]
    assert sorted(names) == sorted(proxies.names())
    for name in proxies.names():
        task = proxies.load(name)
        assert task is proxies.load(name)
        assert task.name == name
        assert name in proxies.names(task.split)


def test_the_error_for_an_unknown_name_suggests_similar_names() -> None:
    with pytest.raises(UnknownTaskError, match=r"did you mean .*'digits-mlp'") as error_info:
        proxies.load("digit-mlp")
    assert isinstance(error_info.value, KeyError)
    with pytest.raises(UnknownTaskError, match="`evosearch tasks` lists all tasks"):
        proxies.load("§")


def test_registering_an_existing_name_or_an_unknown_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="already registered"):
        proxies.register("quadratic", "diagnostic")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        proxies.register("new", "test")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["topics-transformer", "photos-denoise"])
def test_building_a_task_with_data_for_the_diagnostic_split_is_an_error(family: str) -> None:
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
    digits, character_codes = (array[number] for array in data.numbers().arrays)
    assert int("".join(map(str, digits))) == number
    spelled = "".join(data.SPELLING_ALPHABET[code] for code in character_codes)
    assert spelled.rstrip("\0") == words
    assert character_codes[-1] == 0
