"""Tests of the models of Chen et al. 2023, and of how items are drawn and evaluated."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import proxies
from proxies.sampling import Partition, cut, draw, evaluation_views, mean_error
from proxies.tasks import paper
from tests.proxies.compiling import quick_jit

KEY = jax.random.key(0)


def small_task(model: str) -> proxies.Task:
    """Return a task with a smaller version of a model, on generated data."""
    if model == "vit":
        images, classes = paper.generated_images(count=1024, side=16)
        return paper.vit(
            "small",
            "diagnostic",
            images,
            classes,
            data_description="images",
            width=12,
            patch=8,
            batch=32,
        )
    text = paper.generated_text(blocks=64, symbols=50)
    sizes: dict[str, Any] = {"symbols": 50, "width": 16, "context": 8, "batch": 16}
    return paper.transformer("small", "diagnostic", text, data_description="a text", **sizes)


def test_the_stand_ins_have_the_sizes_in_chen_et_al() -> None:
    image_task, text_task = paper.vit_stand_in(steps=7), paper.transformer_stand_in(steps=7)
    vit_layers = 3 * (4 + 2 * 4) * 96**2
    vit_embedding, vit_head = (16 * 16 * 3 + 16) * 96, (96 + 1) * 16
    assert image_task.params == vit_layers + vit_embedding + vit_head
    transformer_layers = 2 * (4 + 2 * 4) * 128**2
    transformer_embedding, transformer_head = (3_000 + 32) * 128, (128 + 1) * 3_000
    assert text_task.params == transformer_layers + transformer_embedding + transformer_head
    page = (Path(proxies.__file__).parents[1] / "docs" / "tasks.md").read_text()
    assert f"vit_stand_in(steps=1_000)  # {image_task.params:,} weights" in page
    assert f"transformer_stand_in(steps=1_000)  # {text_task.params:,} weights" in page
    assert batch_shapes(image_task).pixels.shape == (64, 64, 64, 3)
    assert batch_shapes(text_task).shape == (64, 32 + 1)
    for task in (image_task, text_task):
        assert (task.split, task.steps) == ("diagnostic", 7)
        data_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(task.data))
        assert data_bytes < 30e6


def batch_shapes(task: proxies.Task) -> Any:
    """Return a batch of a task with shapes in place of arrays."""

    def first_batch(key: jax.Array) -> Any:
        return task.batch(task.data, task.sample(task.partition(task.data, key), key))

    return jax.eval_shape(first_batch, KEY)


@pytest.mark.parametrize("model", ["vit", "transformer"])
def test_a_small_version_of_each_model_learns_the_generated_data(model: str) -> None:
    task, adam = small_task(model), optax.scale_by_adam()

    def init(params: Any, learning_rate: jax.Array) -> Any:
        return adam.init(params), learning_rate

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        adam_state, learning_rate = state
        updates, adam_state = adam.update(updates, adam_state, params)
        updates = jax.tree.map(lambda leaf: -learning_rate * leaf, updates)
        return updates, (adam_state, learning_rate)

    @quick_jit
    def final_loss(learning_rate: jax.Array) -> jax.Array:
        rule = optax.GradientTransformation(init, update)
        return proxies.train(task, rule, steps=60, key=KEY, operands=(learning_rate,)).loss

    assert 0 < final_loss(jnp.float32(0.01)) < 0.9 * final_loss(jnp.float32(0.0))


def test_patches_are_squares_in_row_major_order() -> None:
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = proxies.layers.patches(jnp.asarray(images), 2)
    assert patches.shape == (2, 6, 12)
    patch_in_second_row_and_column = images[1, 2:4, 2:4]
    assert np.array_equal(patches[1, 4], patch_in_second_row_and_column.ravel())


def test_mean_error_is_the_mean_over_all_evaluation_items() -> None:
    """The number of items is no multiple of the batch size."""
    errors = jnp.asarray(np.random.default_rng(0).random(23), jnp.float32)
    views = jnp.arange(23, dtype=jnp.uint32)
    partition = Partition(jnp.arange(0), jnp.arange(23)[::-1], views)
    mean = mean_error(lambda items, bits: jnp.mean(errors[items] * bits), partition, batch_size=5)
    np.testing.assert_allclose(mean, np.mean(errors[::-1] * views), rtol=1e-6)


@pytest.mark.parametrize("item_count", [100, 2**16, 2**16 + 1, 300_000])
def test_drawn_items_and_bits_are_uniform_and_uncorrelated(item_count: int) -> None:
    items, bits = draw(jnp.arange(item_count), KEY, 4000)
    item_histogram, _ = np.histogram(items, bins=8, range=(0, item_count))
    bit_histogram, _ = np.histogram(bits, bins=8, range=(0, 2**16))
    assert item_histogram.min() > 400
    assert bit_histogram.min() > 400
    assert abs(np.corrcoef(items, bits)[0, 1]) < 0.1


@pytest.mark.parametrize(("at_most", "expected_count"), [(None, 25), (30, 25), (7, 7)])
def test_a_quarter_of_100_items_up_to_the_maximum_is_evaluated(
    at_most: int | None, expected_count: int
) -> None:
    partition = cut(100, KEY, at_most=at_most)
    assert len(partition.evaluation) == len(partition.view) == expected_count
    assert sorted([*partition.train.tolist(), *partition.evaluation.tolist()]) == list(range(100))


@pytest.mark.parametrize("views_per_item", [1, 4, 8, 16])
def test_the_views_of_an_evaluation_item_cover_the_range_of_views_evenly(
    views_per_item: int,
) -> None:
    partition = Partition(
        jnp.arange(0), jnp.array([7, 2, 5]), jnp.array([0, 40_000, 65_535], jnp.uint32)
    )
    items, all_views = evaluation_views(partition, views_per_item)
    for item in (7, 2, 5):
        views = np.sort(np.asarray(all_views)[np.asarray(items) == item]).astype(int)
        assert len(views) == views_per_item
        gaps = np.diff([*views, views[0] + 2**16])
        assert gaps.max() < 2 * 2**16 / views_per_item
