"""Tiles of the weights: what the threads of a block load, compute and store at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

Array = jax.Array
Ref = Any

SIZE = 1024
"""Number of weights in a tile: eight for each thread of four warps."""


class Tile(NamedTuple):
    """Weights that a block computes at a time.

    Attributes:
        index: the indices of the weights in the model: a slice, or an int32 array.
        inside: which of the indices belong to the weights that are computed.
    """

    index: Any
    inside: Array

    def shifted(self, offset: int) -> Tile:
        """Return the tile of a slice as many weights further on as `offset`."""
        return Tile(pl.ds(self.index.start + offset, self.index.size), self.inside)


@dataclass(frozen=True)
class Tiles:
    """The tiles over which an instruction sums.

    Attributes:
        first: number of the first tile.
        end: number of the last tile plus one.
        tile: returns the tile with a number.
        axis: the axis of the tiles along which to sum; None for all axes.
    """

    first: Any
    end: Any
    tile: Callable[[Any], Tile]
    axis: int | None = None


def tile_at(number: Any, start: Any, end: Any) -> Tile:
    """Return the part in [start, end) of the tile with a number; tiles begin at weight 0."""
    index = number * SIZE + lax.iota(jnp.int32, SIZE)
    return Tile(pl.ds(number * SIZE, SIZE), (index >= start) & (index < end))


def tiles_of(start: Any, end: Any) -> Tiles:
    """Return the tiles that overlap weights [start, end)."""
    return Tiles(start // SIZE, pl.cdiv(end, SIZE), lambda number: tile_at(number, start, end))


def load(memory: Ref, row: tuple[Array, ...], tile: Tile) -> Array:
    """Load a tile of one row, with zeros outside the tile."""
    value: Array = triton.load(memory.at[*row, tile.index], mask=tile.inside, other=0.0)
    return value


def store(memory: Ref, row: tuple[Array, ...], tile: Tile, value: Any) -> None:
    """Write a tile of one row, or a number for all weights of the tile."""
    numbers = jnp.broadcast_to(value, tile.inside.shape).astype(memory.dtype)
    triton.store(memory.at[*row, tile.index], numbers, mask=tile.inside)


def for_each(first: Any, end: Any, act: Callable[[Array], None]) -> None:
    """Call `act(i)` for each i in [first, end)."""

    def body(i: Array, carry: int) -> int:
        act(i)
        return carry

    lax.fori_loop(first, end, body, 0)
