"""Packing of pytrees as rows of words."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxies.training.packing import Packing

NUMBERS = st.integers(0, 2**32 - 1)


def tree(words):
    """Return a pytree of floats, signed and unsigned numbers with the given eight words."""
    array = np.array(words, np.uint32)
    signed = array[:3].view(np.int32).reshape(1, 3)
    return {"signed": signed, "floats": array[3:7].view(np.float32), "unsigned": array[7]}


@given(st.lists(st.lists(NUMBERS, min_size=8, max_size=8), min_size=1, max_size=4))
def test_unpacked_rows_have_the_packed_numbers_bit_for_bit(rows_of_words):
    packing = Packing(tree([0] * 8))
    trees = [tree(words) for words in rows_of_words]
    rows = np.stack([packing.pack(each) for each in trees])
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    for unpacked in (packing.unpack(rows), jax.jit(packing.unpack)(rows)):
        for name, leaf in expected.items():
            assert np.asarray(unpacked[name]).dtype == leaf.dtype
            assert np.asarray(unpacked[name]).tobytes() == leaf.tobytes()


def test_numbers_of_other_sizes_cannot_be_packed():
    with pytest.raises(ValueError, match="arrays of float64 cannot be packed; use float32"):
        Packing((np.zeros(2, np.float32), np.zeros(2)))
    with pytest.raises(ValueError, match="the arrays have 4 words and the example 2"):
        Packing(np.zeros(2, np.float32)).pack(np.zeros(2))
