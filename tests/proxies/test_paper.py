"""The proxies of Chen et al. 2023: published shapes, small variants, and draws of items."""

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


def small(kind: str) -> proxies.Task:
    """Return the model `kind` with smaller sizes on less generated data."""
    if kind == "vit":
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
    images, text = paper.vit_stand_in(steps=7), paper.transformer_stand_in(steps=7)
    layers = 3 * (4 + 2 * 4) * 96**2
    assert images.params == layers + (16 * 16 * 3 + 16) * 96 + (96 + 1) * 16
    layers = 2 * (4 + 2 * 4) * 128**2
    assert text.params == layers + (3_000 + 32) * 128 + (128 + 1) * 3_000
    documented = (Path(proxies.__file__).parents[1] / "docs" / "tasks.md").read_text()
    assert f"vit_stand_in(steps=1_000)  # {images.params:,} weights" in documented
    assert f"transformer_stand_in(steps=1_000)  # {text.params:,} weights" in documented
    batches = [
        jax.eval_shape(
            lambda key, task=task: task.batch(
                task.data, task.sample(task.partition(task.data, key), key)
            ),
            KEY,
        )
        for task in (images, text)
    ]
    assert batches[0].pixels.shape == (64, 64, 64, 3)
    assert batches[1].shape == (64, 32 + 1)
    for task in (images, text):
        assert (task.split, task.steps) == ("diagnostic", 7)
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(task.data)) < 30e6


@pytest.mark.parametrize("kind", ["vit", "transformer"])
def test_a_small_variant_learns_the_generated_data(kind: str) -> None:
    task, adam = small(kind), optax.scale_by_adam()

    def init(params: Any, rate: jax.Array) -> Any:
        return adam.init(params), rate

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        updates, inner = adam.update(updates, state[0], params)
        return jax.tree.map(lambda leaf: -state[1] * leaf, updates), (inner, state[1])

    @quick_jit
    def final(rate: jax.Array) -> jax.Array:
        rule = optax.GradientTransformation(init, update)
        return proxies.train(task, rule, steps=60, key=KEY, operands=(rate,)).loss

    assert 0 < final(jnp.float32(0.01)) < 0.9 * final(jnp.float32(0.0))


def test_patches_are_squares_in_row_major_order() -> None:
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = proxies.layers.patches(jnp.asarray(x), 2)
    assert patches.shape == (2, 6, 12)
    assert np.array_equal(patches[1, 4], x[1, 2:4, 2:4].ravel())


def test_mean_error_is_the_mean_over_all_evaluation_items() -> None:
    values = jnp.asarray(np.random.default_rng(0).random(23), jnp.float32)
    items = Partition(jnp.arange(0), jnp.arange(23)[::-1], jnp.arange(23, dtype=jnp.uint32))
    mean = mean_error(lambda item, bits: jnp.mean(values[item] * bits), items, batch_size=5)
    np.testing.assert_allclose(mean, np.mean(values[::-1] * np.arange(23)), rtol=1e-6)


@pytest.mark.parametrize("count", [100, 2**16, 2**16 + 1, 300_000])
def test_draws_cover_any_number_of_items_evenly(count: int) -> None:
    drawn, bits = draw(jnp.arange(count), KEY, 4000)
    assert np.histogram(drawn, bins=8, range=(0, count))[0].min() > 400
    assert np.histogram(bits, bins=8, range=(0, 2**16))[0].min() > 400
    assert abs(np.corrcoef(drawn, bits)[0, 1]) < 0.1


@pytest.mark.parametrize(("at_most", "count"), [(None, 25), (30, 25), (7, 7)])
def test_a_quarter_of_the_items_up_to_the_maximum_is_evaluated(
    at_most: int | None, count: int
) -> None:
    partition = cut(100, KEY, at_most=at_most)
    assert len(partition.evaluation) == len(partition.view) == count
    assert sorted([*partition.train.tolist(), *partition.evaluation.tolist()]) == list(range(100))


@pytest.mark.parametrize("copies", [1, 4, 8, 16])
def test_the_views_of_an_evaluation_item_leave_no_large_gap(copies: int) -> None:
    partition = Partition(
        jnp.arange(0), jnp.array([7, 2, 5]), jnp.array([0, 40_000, 65_535], jnp.uint32)
    )
    items, bits = evaluation_views(partition, copies)
    for item in (7, 2, 5):
        views = np.sort(np.asarray(bits)[np.asarray(items) == item]).astype(int)
        assert len(views) == copies
        assert np.diff([*views, views[0] + 2**16]).max() < 2 * 2**16 / copies
