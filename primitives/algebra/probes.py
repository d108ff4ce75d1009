"""Numeric checks of rewrites: both sides computed in float64 on streams chosen to break them.

Streams are stacked along the first axis, each a model of two arrays of two matrices, so that one
NumPy call runs an op on all of them. Every value is also computed in three more worlds, in which
each op's result is off by about one float32 rounding. Two nodes pass for equal where they differ by
less than some such roundings make out: what no float32 program could tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

import numpy as np

from primitives.algebra.rule import Domain
from primitives.graph.nodes import GRADIENT, STATE, WEIGHTS, Graph, Node
from primitives.kinds import Kind

Array = Any

STEPS = 5
_ROUNDING = 2.0**-23
_ROUNDINGS = 256
_POOL = 2**16
_OFF = (1, 2, 3)  # the worlds that are off by a rounding
_BELOW = 1e-37  # what float32 flushes to zero, with room for a factor
_ARRAYS, _BATCH, _ROWS, _COLS = 2, 2, 2, 3
_FULL = (_ARRAYS, _BATCH, _ROWS, _COLS)
_SHAPES = {
    Kind.SCALAR: (1, 1, 1, 1),
    Kind.LEAF: (_ARRAYS, 1, 1, 1),
    Kind.MATRIX: (_ARRAYS, _BATCH, 1, 1),
    Kind.ROW: (_ARRAYS, _BATCH, _ROWS, 1),
    Kind.COL: (_ARRAYS, _BATCH, 1, _COLS),
    Kind.TENSOR: _FULL,
}
_AXES = {
    Kind.SCALAR: (1, 2, 3, 4),
    Kind.LEAF: (2, 3, 4),
    Kind.MATRIX: (3, 4),
    Kind.ROW: (4,),
    Kind.COL: (3,),
}


@dataclass(frozen=True)
class Streams:
    """Weights and gradients [steps, streams, arrays, batch, rows, columns], lr and t [steps]."""

    weights: Array
    grads: Array
    lr: Array


@cache
def streams() -> Streams:
    """Ordinary, sparse, silent at first, mixed, huge, tiny, denormal, and small integers."""
    rng = np.random.default_rng(20230213)
    made: list[tuple[Array, Array]] = []

    def normal(scale: float = 1.0) -> Array:
        return rng.normal(size=(STEPS, *_FULL)) * scale

    sparse = normal() * (rng.random(_FULL) < 0.5)
    silent = normal() * (np.arange(STEPS) > 1).reshape(-1, 1, 1, 1, 1)
    mixed = normal() * 10.0 ** rng.uniform(-15, 15, size=(STEPS, *_FULL))
    made += [(normal(), normal()), (normal(0.1), normal(10.0)), (normal(), sparse)]
    made += [(np.zeros_like(sparse), silent), (normal(), mixed)]
    made += [(normal(s), normal(s)) for s in (1e16, 1e-16, 1e-42)]
    made.append((np.rint(normal()), np.rint(normal())))
    weights, grads = (np.stack(x, axis=1) for x in zip(*made, strict=True))
    return Streams(weights, grads, np.linspace(1.0, 0.2, STEPS))


@cache
def _pool() -> Array:
    rng = np.random.default_rng(7)
    return 1 + _ROUNDING * rng.uniform(0.5, 1.0, _POOL) * rng.choice([-1.0, 1.0], _POOL)


def _noise(kind: Kind, which: int) -> Array:
    """Factors near 1, for all steps and streams together; another `which`, other factors."""
    shape = (_count(), *_SHAPES[kind])
    size = math.prod(shape)
    start = which * 7919 % (_POOL - size)
    return _pool()[start : start + size].reshape(shape)


def apply(node: Node, args: list[Array]) -> Array:
    """The op of `node` on stacked values."""
    op = node.row
    if op.reduction is None:
        return op.meaning(np, *args)
    inputs = op.reduction.inputs(np, *np.broadcast_arrays(*args))
    over = _AXES[op.reduction.scope]
    summary = np.sum if op.reduction.how == "sum" else np.mean
    return op.meaning(np, tuple(summary(x, axis=over, keepdims=True) for x in inputs), *args)


@dataclass
class World:
    """Values of nodes; unless `off` is 0, each op's result is off by a rounding."""

    off: int
    values: dict[Node, Array] = field(default_factory=dict)
    part: slice = field(default_factory=lambda: slice(None))

    def __call__(self, root: Node) -> Array:
        """The value of `root`, from the leaves' and what has been computed before."""
        value = self.values.get(root)
        if value is None:
            value = self.values[root] = self._value(root)
        return value

    def _value(self, node: Node) -> Array:
        if node.is_constant:
            return np.full((1, 1, 1, 1, 1), node.value)
        value = apply(node, self._operands(node))
        if not node.args:
            value = np.full((1, 1, 1, 1, 1), value, np.float64)
        if self.off and node.args:
            value = value * _noise(node.kind, 4 * node.number + self.off)[self.part]
        return value

    def _operands(self, node: Node) -> list[Array]:
        """Operands; those that an op adds up are off themselves, for their sum may cancel."""
        args = [self(arg) for arg in node.args]
        op = node.row
        if not self.off or not (op.mixes_numbers or node.op == "interp"):
            return args
        for place, arg in enumerate(node.args):
            if place not in op.scalar_operands:
                which = -4 * (2 * node.number + place) - self.off
                args[place] = args[place] * _noise(arg.kind, which)[self.part]
        return args


class Probe:
    """The values that a graph's nodes take, and whether other nodes take the same.

    A rewrite of a value leaves the states as they were, so one probe serves all graphs that come
    of one by such rewrites.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        with np.errstate(all="ignore"):
            self._exact = run(graph, 0)
        leaves = self._exact.values
        self._world = World(0, dict(leaves))
        self._off = [World(off, dict(leaves)) for off in _OFF]
        self._clean: dict[Node, Array] = {}

    def value(self, node: Node) -> Array:
        """What `node` is on all streams, [steps * streams, arrays, batch, rows, columns]."""
        with np.errstate(all="ignore"):
            return self._world(node)

    def agrees(self, old: Node, new: Node, domain: Domain) -> bool:
        """Whether `new` has the values of `old` on all streams, as far as `domain` says."""
        with np.errstate(all="ignore"):
            a, b = self._world(old), self._world(new)
            same = _close(a, [off(old) for off in self._off], b, [off(new) for off in self._off])
            if domain > Domain.ALWAYS:
                same = same | ~self._is_clean(old)
            return bool(np.all(same))

    def same_updates(self, other: Graph, domain: Domain) -> bool:
        """Whether `other` makes the updates that the probed graph makes."""
        with np.errstate(all="ignore"):
            a, b = self._exact.update, run(other, 0).update
            a_off, b_off = (
                [run(graph, off).update for off in _OFF] for graph in (self.graph, other)
            )
            same = _close(a, a_off, b, b_off)
            if domain > Domain.ALWAYS:
                unclean = np.zeros((STEPS, streams().weights.shape[1], 1, 1, 1, 1), bool)
                for root in self.graph.roots:
                    clean = np.broadcast_to(self._is_clean(root), (_count(), *_FULL))
                    clean = clean.reshape(STEPS, -1, *_FULL)
                    unclean |= ~clean.all(axis=(2, 3, 4, 5), keepdims=True)
                same = same | np.logical_or.accumulate(unclean, axis=0)
            return bool(np.all(same))

    def _is_clean(self, root: Node) -> Array:
        """Where no value on the way to `root` overflowed, underflowed or was NaN."""
        known = self._clean.get(root)
        if known is None:
            known = self._clean[root] = self._clean_here(root)
        return known

    def _clean_here(self, node: Node) -> Array:
        value = self._world(node)
        clean = np.isfinite(value) & ((value == 0) | (np.abs(value) > 1e-300))
        if not node.is_call:
            return clean
        op = node.row
        if op.underflows and node.args:
            lost = value == 0
            for arg in node.args:
                lost = lost & (self._world(arg) != 0)
            clean = clean & ~lost
        for arg in node.args:
            known = self._is_clean(arg)
            if op.mixes_numbers:
                known = known.all(axis=(1, 2, 3, 4), keepdims=True)
            clean = clean & known
        return clean


def _count() -> int:
    return STEPS * int(streams().weights.shape[1])


def _close(a: Array, a_off: list[Array], b: Array, b_off: list[Array]) -> Array:
    """Where `a` and `b` differ by no more than roundings do, which the worlds that are off show."""
    spread = reduce(np.maximum, [np.abs(a - x) for x in a_off]) + _ROUNDING * np.abs(a)
    unsure = ~np.isfinite(spread) & np.isfinite(a)
    spread = spread + reduce(np.maximum, [np.abs(b - x) for x in b_off])
    gap = np.abs(a - b)
    near = np.isfinite(gap) & (gap <= _ROUNDINGS * spread + _BELOW)
    return (a == b) | (np.isnan(a) & np.isnan(b)) | near | unsure


@dataclass(frozen=True)
class Trajectory:
    """What a graph did on the streams: its leaves' values, steps and streams in one axis."""

    values: Mapping[Node, Array]
    update: Array


def run(graph: Graph, off: int) -> Trajectory:
    """Runs `graph` on the streams; unless `off` is 0, each op is off by a rounding."""
    given = streams()
    count = given.weights.shape[1]
    leaves = [node for node in graph.live if node.is_leaf]
    entering: dict[str, Array] = {
        s.name: np.full((count, *_SHAPES[s.kind]), np.float32(s.initial), np.float64)
        for s in graph.states
    }
    kinds = {s.name: s.kind for s in graph.states}
    seen: dict[Node, list[Array]] = {leaf: [] for leaf in leaves}
    updates = []
    for number in range(STEPS):
        inputs = {
            WEIGHTS: given.weights[number],
            GRADIENT: given.grads[number],
            "lr": np.full((count, 1, 1, 1, 1), given.lr[number]),
            "t": np.full((count, 1, 1, 1, 1), number + 1.0),
        }
        world = World(off, part=slice(number * count, (number + 1) * count))
        for leaf in leaves:
            value = entering[leaf.name] if leaf.op == STATE else inputs[leaf.op]
            world.values[leaf] = value
            seen[leaf].append(world.values[leaf])
        updates.append(np.broadcast_to(world(graph.update), (count, *_FULL)))
        entering = {
            name: np.broadcast_to(world(node), (count, *_SHAPES[kinds[name]]))
            for name, node in graph.following.items()
        }
    stacked = {leaf: np.concatenate(rows) for leaf, rows in seen.items()}
    return Trajectory(stacked, np.stack(updates))
