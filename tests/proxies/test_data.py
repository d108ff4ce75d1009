"""The sources and their one cut, and the registry that keeps tasks to their part."""

import numpy as np
import pytest

import proxies
from proxies import UnknownTaskError, data

SOURCES = (data.digits(), data.photos(), data.topics())
SHARES: dict[data.Part, float] = {"search": 0.5, "validation": 0.2, "held-out": 0.3}

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


@each_source
def test_the_parts_are_disjoint_and_cover_the_source(source: data.Source) -> None:
    parts = {part: source.part(part) for part in data.PARTS}
    assert sum(len(arrays[0]) for arrays in parts.values()) == len(source.groups)
    for part, arrays in parts.items():
        rows = np.array([source.part_of(group) == part for group in source.groups])
        for array, whole in zip(arrays, source.arrays, strict=True):
            assert np.array_equal(array, whole[rows])


@each_source
def test_every_part_has_about_its_share_of_the_items(source: data.Source) -> None:
    for part, share in SHARES.items():
        assert len(source.part(part)[0]) / len(source.groups) == pytest.approx(share, abs=0.15)


def test_the_cut_is_fixed_for_ever() -> None:
    digits, topics = data.digits(), data.topics()
    parts = [digits.part_of(str(index)) for index in range(len(digits.groups))]
    assert [parts.index(part) for part in data.PARTS] == [0, 13, 9]
    assert [topics.part_of(topic) for topic in ("lambda", "class", "with")] == [
        "search",
        "validation",
        "search",
    ]


def test_no_passage_stands_in_two_parts_of_the_text() -> None:
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


def test_a_digest_tells_any_change_of_the_data() -> None:
    digests = proxies.digests()
    assert set(digests) == {"digits", "photos", "topics"}
    assert digests == proxies.digests()
    assert all(len(digest) == 64 for digest in digests.values())
    digits = data.digits()
    images, labels = digits.arrays
    changed = images.copy()
    changed[0, 0, 0] += 1
    assert data.Source("digits", digits.groups, (changed, labels)).digest() != digests["digits"]


@pytest.mark.parametrize("name", [n for n in proxies.names() if n != "quadratic"])
def test_a_task_reads_only_the_part_of_its_split(name: str) -> None:
    task = proxies.load(name)
    source = {source.name: source for source in SOURCES}[name.partition("-")[0]]
    read = len(task.data[0])
    assert [part for part in data.PARTS if read == len(source.part(part)[0])] == [task.split]


def test_tasks_are_listed_by_split_and_loaded_once() -> None:
    assert set(proxies.names("search")) == {
        "digits-mlp",
        "digits-conv",
        "topics-attention",
        "photos-autoencoder",
    }
    by_split = [name for split in proxies.task.SPLITS for name in proxies.names(split)]
    assert sorted(by_split) == sorted(proxies.names())
    for name in proxies.names():
        task = proxies.load(name)
        assert task is proxies.load(name)
        assert task.name == name
        assert name in proxies.names(task.split)


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownTaskError, match=r"did you mean .*'digits-mlp'") as raised:
        proxies.load("digit-mlp")
    assert isinstance(raised.value, KeyError)
    with pytest.raises(UnknownTaskError, match=r"use one of .*quadratic"):
        proxies.load("§")


def test_a_taken_name_and_an_unknown_split_are_refused() -> None:
    with pytest.raises(ValueError, match="already registered"):
        proxies.register("quadratic", "diagnostic")
    with pytest.raises(ValueError, match="unknown split 'test'"):
        proxies.register("new", "test")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["digits-conv", "topics-transformer", "photos-denoise"])
def test_a_family_with_data_refuses_the_diagnostic_split(family: str) -> None:
    from proxies.registry import _rows

    with pytest.raises(ValueError, match="no diagnostic part"):
        _rows[family][1](family, "diagnostic")
