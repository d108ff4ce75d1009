"""Tests of user tasks that Python files, arrays and texts define."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

import proxies
from proxies import UserTaskError, data
from proxies.tasks import paper
from proxies.user_tasks import files as task_files
from tests.proxies.compiling import quick_jit

TASK_FILE = """
import dataclasses
import proxies

def task():
    return dataclasses.replace(proxies.load("quadratic"), split="search", steps=30)

def returns_int():
    return 7

def raises():
    return 1 / 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of files with valid and invalid tasks."""
    tmp_path = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 5))
    classes = (x[:, 0] + x[:, 1] ** 2 > 1).astype(int)
    np.savez(tmp_path / "classes.npz", x=x, y=classes)
    np.savez(tmp_path / "numbers.npz", x=x, y=x @ rng.standard_normal(5))
    np.savez(tmp_path / "short.npz", x=x[:40], y=classes[:40])
    np.savez(tmp_path / "unequal.npz", x=x, y=classes[:-1])
    np.savez(tmp_path / "nan.npz", x=x * np.nan, y=classes)
    np.savez(tmp_path / "nameless.npz", a=x)
    (tmp_path / "none.npz").write_text("not arrays")
    (tmp_path / "task.py").write_text(TASK_FILE)
    words = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "while", "it", "rains\n"]
    (tmp_path / "notes.txt").write_text(" ".join(rng.choice(words, 6000)))
    (tmp_path / "brief.txt").write_text("too short")
    images = rng.integers(0, 200, (240, 64, 64, 3), np.uint8)
    labels = np.arange(240) % 3
    images[labels == 1, :32] += 50
    images[labels == 2, 32:] += 50
    np.savez(tmp_path / "images.npz", x=images, y=labels)
    np.savez(tmp_path / "floats.npz", x=images.astype(np.float64) / 255, y=labels)
    np.savez(tmp_path / "few.npz", x=images[:80], y=labels[:80])
    np.savez(tmp_path / "channels.npz", x=images[:64].transpose(0, 3, 1, 2), y=labels[:64])
    np.savez(tmp_path / "integers.npz", x=images[:64].astype(np.int64), y=labels[:64])
    np.savez(tmp_path / "targets.npz", x=images[:64], y=labels[:64] / 2)
    np.savez(tmp_path / "texts.npz", x=np.array(["a", "b"]), y=np.arange(2))
    vocabulary = np.array([f"word{number}" for number in range(4000)])
    word_indices = np.minimum(rng.zipf(1.3, 40_000), 4000) - 1
    (tmp_path / "words.txt").write_text(" ".join(vocabulary[word_indices]))
    return tmp_path


def loss_ratio(task: proxies.Task, steps: int, learning_rate: float) -> float:
    """Return the final loss divided by the loss of an untrained model."""
    trained = proxies.train(task, optax.adam(learning_rate), steps=steps, key=jax.random.key(0))
    untrained = proxies.train(task, optax.sgd(0.0), steps=1, key=jax.random.key(0))
    return float(trained.loss / untrained.loss)


@pytest.mark.parametrize(
    ("name", "steps", "max_loss_ratio"),
    [
        ("task.py:task", 30, 0.7),
        ("classes.npz", 200, 0.6),
        ("numbers.npz", 200, 0.2),
        ("notes.txt", 100, 0.8),
    ],
)
def test_training_a_user_task_lowers_its_loss(
    folder: Path, name: str, steps: int, max_loss_ratio: float
) -> None:
    task = proxies.load(f"{folder}/{name}")
    assert task is proxies.load(f"{folder}/{name}")
    assert task.name == f"{folder}/{name}"
    assert task.split == "search"
    assert loss_ratio(task, steps, learning_rate=0.02) < max_loss_ratio


def test_the_loss_on_small_separable_data_stays_between_1e_4_and_2(tmp_path: Path) -> None:
    """Without label smoothing, the cross-entropy would be e^-80 on some seeds and 100 on others."""
    classes = np.arange(180) % 3
    x = np.random.default_rng(0).standard_normal((180, 4)) * 0.3
    x[:, 0] += classes
    np.savez(tmp_path / "separable.npz", x=x, y=classes)
    task = proxies.load(f"{tmp_path}/separable.npz")
    for learning_rate in (0.01, 0.3):
        rule = optax.adam(learning_rate)
        result = proxies.train(task, rule, steps=200, key=jax.random.key(0))
        assert 1e-4 < float(result.loss) < 2.0


@pytest.mark.parametrize(
    "name",
    ["classes.npz", "notes.txt", "images.npz:paper-vit", "words.txt:paper-transformer"],
)
def test_the_parts_of_a_users_data_share_no_row(folder: Path, name: str) -> None:
    rows = {}
    for part in data.PARTS:
        task = proxies.load(f"{folder}/{name}@{part}")
        assert task.split == part
        rows[part] = {row.tobytes() for row in np.asarray(task.data[0])}
    assert not rows["search"] & rows["held-out"]
    assert not rows["validation"] & (rows["search"] | rows["held-out"])
    assert all(rows.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.npz", "cannot read"),
        ("task.py", "the name of the function is missing; write .*task.py:FUNCTION"),
        ("task.py:tusk", "task.py has no function 'tusk'"),
        ("task.py:returns_int", "in .*task.py returned int; return a proxies.Task"),
        ("task.py:raises", "failed with ZeroDivisionError"),
        ("short.npz", "each part needs at least 32"),
        ("brief.txt", "has 0 blocks of 128 characters in its search part"),
        ("unequal.npz", "x of .* has 600 rows and y has 599"),
        ("nan.npz", "NaN or infinity"),
        ("nameless.npz", "has a, but not x and y; save arrays named x and y"),
        ("none.npz", "not a valid .npz file"),
        ("classes.npz:forest", "use one of network, linear"),
        ("classes.npz@test", "use one of search, validation, held-out"),
        ("texts.npz", "x of .*texts.npz has the dtype <U1; save integers or floats"),
        (
            "classes.npz:paper-vit",
            r"has the shape \(600, 5\); save images of the shape \(n, 64, 64, 3\)",
        ),
        (
            "channels.npz:paper-vit",
            r"has the shape \(64, 3, 64, 64\); save images of the shape \(n, 64, 64, 3\)",
        ),
        ("integers.npz:paper-vit", "x of .* has the dtype int64; save images as uint8 or float32"),
        ("targets.npz:paper-vit", "save one integer, the class, for each image"),
        (
            "few.npz:paper-vit@validation",
            r"1\d images in its validation part; .* so save about 160 or more in all",
        ),
        ("brief.txt:paper-transformer", "has 0 blocks of 128 words in its search part"),
        ("notes.txt:paper-vit", "unknown model 'paper-vit' for .txt files; use one of attention"),
    ],
)
def test_the_error_about_an_invalid_file_names_the_fault_and_the_remedy_in_one_line(
    folder: Path, name: str, message: str
) -> None:
    with pytest.raises(UserTaskError, match=message) as error_info:
        proxies.load(f"{folder}/{name}")
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-mlp-10x", "adamw", "a.csv"])
def test_names_without_a_suffix_of_task_files_are_not_user_tasks(name: str) -> None:
    assert not task_files.is_user_task(name)


@pytest.mark.parametrize(
    ("name", "class_count"), [("floats.npz:paper-vit", 3), ("words.txt:paper-transformer", 3_000)]
)
def test_an_untrained_model_of_the_paper_predicts_the_classes_of_a_users_data_evenly(
    folder: Path, name: str, class_count: int
) -> None:
    task = proxies.load(f"{folder}/{name}")

    @quick_jit
    def first_loss(data: Any, key: jax.Array) -> jax.Array:
        batch = task.batch(data, task.sample(task.partition(data, key), key))
        return task.loss(task.init(key), batch, key)

    loss = float(first_loss(task.data, jax.random.key(0)))
    loss_of_even_prediction = np.log(class_count)
    assert 0.9 * loss_of_even_prediction < loss < loss_of_even_prediction + 1.0
    assert task.name == f"{folder}/{name}"
    assert name.split(":")[0] in task.source


def test_images_are_stored_unchanged_and_standardised_in_batches(folder: Path) -> None:
    for name in ("images", "floats"):
        task = proxies.load(f"{folder}/{name}.npz:paper-vit@validation")
        all_items = np.arange(len(task.data.labels))
        pixels = task.batch(task.data, all_items).pixels
        np.testing.assert_allclose(pixels.mean(axis=(0, 1, 2)), 0.0, atol=1e-4)
        np.testing.assert_allclose(pixels.std(axis=(0, 1, 2)), 1.0, rtol=1e-4)
    assert proxies.load(f"{folder}/images.npz:paper-vit").data.pixels.dtype == np.uint8


def test_the_vocabulary_comes_from_the_search_part(folder: Path) -> None:
    """Words that are not in the vocabulary have the code 0."""
    blocks = {}
    for part in data.PARTS:
        task = proxies.load(f"{folder}/words.txt:paper-transformer@{part}")
        blocks[part] = np.asarray(task.data.blocks)
    assert blocks["search"].max() < paper.SYMBOLS
    has_unknown_words = {part: bool(np.any(codes == 0)) for part, codes in blocks.items()}
    assert has_unknown_words == {"search": False, "validation": True, "held-out": True}
    counts = np.bincount(blocks["search"].ravel())[1:]
    is_sorted_by_frequency = np.all(np.diff(counts) <= 0)
    assert is_sorted_by_frequency


def test_the_most_frequent_words_form_the_vocabulary() -> None:
    codes = paper.codes_of([*"babab", *map(str, range(4000))])
    assert len(codes) == paper.SYMBOLS - 1
    assert (codes["b"], codes["a"], codes["0"]) == (1, 2, 3)


def test_texts_are_split_into_lower_case_words_and_punctuation() -> None:
    assert paper.words("Don't\nPANIC!") == ["don", "'", "t", "\n", "panic", "!"]
