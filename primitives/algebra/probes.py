"""Numeric checks of rewrites: both sides are computed in float64 on adversarial probe streams.

A stream is a sequence of weights and gradients of a model of two arrays of two matrices. Streams
are stacked along the first axis, so that one NumPy call runs an op on all of them. Every value is
also computed three more times, with each op's result perturbed by about one float32 rounding error.
Two nodes count as equal where their difference is at most a multiple of the changes that the
perturbations cause, since float32 arithmetic cannot distinguish such nodes.
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
_MAX_ROUNDING_ERRORS = 256
_NOISE_SIZE = 2**16
_PERTURBATIONS = (1, 2, 3)  # seeds of the perturbed evaluations; 0 means no perturbation
_FLUSHED = 1e-37  # float32 may flush smaller differences to zero; includes a safety factor
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
    """Inputs of the probed programs.

    Attributes:
        weights: [steps, streams, arrays, batch, rows, columns] float64.
        grads: gradients, with the shape of `weights`.
        lr: [steps] float64, the schedule input `lr`.
    """

    weights: Array
    grads: Array
    lr: Array


@cache
def streams() -> Streams:
    """Return the probe streams.

    Their numbers are normally distributed, sparse, zero in the first steps, of mixed magnitudes,
    huge, tiny, subnormal, or small integers.
    """
    rng = np.random.default_rng(20230213)
    pairs: list[tuple[Array, Array]] = []

    def normal(scale: float = 1.0) -> Array:
        return rng.normal(size=(STEPS, *_FULL)) * scale

    sparse = normal() * (rng.random(_FULL) < 0.5)
    silent = normal() * (np.arange(STEPS) > 1).reshape(-1, 1, 1, 1, 1)
    mixed = normal() * 10.0 ** rng.uniform(-15, 15, size=(STEPS, *_FULL))
    pairs += [(normal(), normal()), (normal(0.1), normal(10.0)), (normal(), sparse)]
    pairs += [(np.zeros_like(sparse), silent), (normal(), mixed)]
    pairs += [(normal(s), normal(s)) for s in (1e16, 1e-16, 1e-42)]
    pairs.append((np.rint(normal()), np.rint(normal())))
    weights, grads = (np.stack(x, axis=1) for x in zip(*pairs, strict=True))
    return Streams(weights, grads, np.linspace(1.0, 0.2, STEPS))


@cache
def _noise_pool() -> Array:
    rng = np.random.default_rng(7)
    return 1 + _ROUNDING * rng.uniform(0.5, 1.0, _NOISE_SIZE) * rng.choice([-1.0, 1.0], _NOISE_SIZE)


def _noise(kind: Kind, seed: int) -> Array:
    """Return factors near 1 for a value of a kind, for all steps and streams."""
    shape = (_count(), *_SHAPES[kind])
    size = math.prod(shape)
    start = seed * 7919 % (_NOISE_SIZE - size)
    return _noise_pool()[start : start + size].reshape(shape)


def apply(node: Node, args: list[Array]) -> Array:
    """Return the result of the op of `node` on stacked values."""
    op = node.op_entry
    if op.reduction is None:
        return op.meaning(np, *args)
    inputs = op.reduction.inputs(np, *np.broadcast_arrays(*args))
    over = _AXES[op.reduction.kind]
    summary = np.sum if op.reduction.method == "sum" else np.mean
    return op.meaning(np, tuple(summary(x, axis=over, keepdims=True) for x in inputs), *args)


@dataclass
class Evaluation:
    """Evaluates nodes on the streams.

    Attributes:
        perturbation: the seed of the perturbations of each op's result; 0 means no perturbation.
        values: the values computed so far, which must include the leaves' values.
        rows: the part of the axis [steps * streams] that is evaluated.
    """

    perturbation: int
    values: dict[Node, Array] = field(default_factory=dict)
    rows: slice = field(default_factory=lambda: slice(None))

    def __call__(self, root: Node) -> Array:
        """Return the value of `root`."""
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
        if self.perturbation and node.args:
            value = value * _noise(node.kind, 4 * node.number + self.perturbation)[self.rows]
        return value

    def _operands(self, node: Node) -> list[Array]:
        """Return the operands, of which summed operands are perturbed, since they may cancel."""
        args = [self(arg) for arg in node.args]
        op = node.op_entry
        if not self.perturbation or not (op.mixes_numbers or node.op == "interp"):
            return args
        for index, arg in enumerate(node.args):
            if index not in op.scalar_operands:
                seed = -4 * (2 * node.number + index) - self.perturbation
                args[index] = args[index] * _noise(arg.kind, seed)[self.rows]
        return args


class Probe:
    """The values of a graph's nodes on the streams, for comparison with other nodes.

    A rewrite of values does not change the states. So one probe serves its graph and all graphs
    that rewrites of values make from it.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        with np.errstate(all="ignore"):
            self._exact = run(graph, 0)
        leaves = self._exact.values
        self._unperturbed = Evaluation(0, dict(leaves))
        self._perturbed = [Evaluation(seed, dict(leaves)) for seed in _PERTURBATIONS]
        self._in_range: dict[Node, Array] = {}

    def value(self, node: Node) -> Array:
        """Return the value of `node`, [steps * streams, arrays, batch, rows, columns] float64."""
        with np.errstate(all="ignore"):
            return self._unperturbed(node)

    def agrees(self, old: Node, new: Node, domain: Domain) -> bool:
        """Whether `new` equals `old` on all streams, wherever `domain` requires it."""
        with np.errstate(all="ignore"):
            a, b = self._unperturbed(old), self._unperturbed(new)
            a_perturbed = [evaluate(old) for evaluate in self._perturbed]
            b_perturbed = [evaluate(new) for evaluate in self._perturbed]
            same = _are_close(a, a_perturbed, b, b_perturbed)
            if domain > Domain.ALWAYS:
                same = same | ~self._is_in_range(old)
            return bool(np.all(same))

    def same_updates(self, other: Graph, domain: Domain) -> bool:
        """Whether `other` gives the updates of the probed graph wherever `domain` requires it."""
        with np.errstate(all="ignore"):
            a, b = self._exact.update, run(other, 0).update
            a_perturbed, b_perturbed = (
                [run(graph, seed).update for seed in _PERTURBATIONS]
                for graph in (self.graph, other)
            )
            same = _are_close(a, a_perturbed, b, b_perturbed)
            if domain > Domain.ALWAYS:
                out_of_range = np.zeros((STEPS, streams().weights.shape[1], 1, 1, 1, 1), bool)
                for root in self.graph.roots:
                    in_range = np.broadcast_to(self._is_in_range(root), (_count(), *_FULL))
                    in_range = in_range.reshape(STEPS, -1, *_FULL)
                    out_of_range |= ~in_range.all(axis=(2, 3, 4, 5), keepdims=True)
                same = same | np.logical_or.accumulate(out_of_range, axis=0)
            return bool(np.all(same))

    def _is_in_range(self, root: Node) -> Array:
        """Return where `root` and all values below it are finite and have not underflowed."""
        cached = self._in_range.get(root)
        if cached is None:
            cached = self._in_range[root] = self._compute_in_range(root)
        return cached

    def _compute_in_range(self, node: Node) -> Array:
        value = self._unperturbed(node)
        in_range = np.isfinite(value) & ((value == 0) | (np.abs(value) > 1e-300))
        if not node.is_call:
            return in_range
        op = node.op_entry
        if op.underflows and node.args:
            lost = value == 0
            for arg in node.args:
                lost = lost & (self._unperturbed(arg) != 0)
            in_range = in_range & ~lost
        for arg in node.args:
            arg_in_range = self._is_in_range(arg)
            if op.mixes_numbers:
                arg_in_range = arg_in_range.all(axis=(1, 2, 3, 4), keepdims=True)
            in_range = in_range & arg_in_range
        return in_range


def _count() -> int:
    return STEPS * int(streams().weights.shape[1])


def _are_close(a: Array, a_perturbed: list[Array], b: Array, b_perturbed: list[Array]) -> Array:
    """Return where `a` and `b` differ by at most a few rounding errors.

    The size of rounding errors is estimated from the perturbed values. Where perturbed values are
    infinite or NaN and `a` is finite, `a` and `b` count as close.
    """
    rounding_error = reduce(np.maximum, [np.abs(a - x) for x in a_perturbed]) + _ROUNDING * np.abs(
        a
    )
    undecided = ~np.isfinite(rounding_error) & np.isfinite(a)
    rounding_error = rounding_error + reduce(np.maximum, [np.abs(b - x) for x in b_perturbed])
    gap = np.abs(a - b)
    near = np.isfinite(gap) & (gap <= _MAX_ROUNDING_ERRORS * rounding_error + _FLUSHED)
    return (a == b) | (np.isnan(a) & np.isnan(b)) | near | undecided


@dataclass(frozen=True)
class Trajectory:
    """The values that a graph takes on the streams.

    Attributes:
        values: each leaf's values, with a first axis [steps * streams].
        update: [steps, streams, arrays, batch, rows, columns] float64.
    """

    values: Mapping[Node, Array]
    update: Array


def run(graph: Graph, perturbation: int) -> Trajectory:
    """Run `graph` on the streams; see `Evaluation` for `perturbation`."""
    probes = streams()
    count = probes.weights.shape[1]
    leaves = [node for node in graph.live if node.is_leaf]
    state_values: dict[str, Array] = {
        s.name: np.full((count, *_SHAPES[s.kind]), np.float32(s.initial), np.float64)
        for s in graph.states
    }
    kinds = {s.name: s.kind for s in graph.states}
    leaf_values: dict[Node, list[Array]] = {leaf: [] for leaf in leaves}
    updates = []
    for number in range(STEPS):
        inputs = {
            WEIGHTS: probes.weights[number],
            GRADIENT: probes.grads[number],
            "lr": np.full((count, 1, 1, 1, 1), probes.lr[number]),
            "t": np.full((count, 1, 1, 1, 1), number + 1.0),
        }
        evaluation = Evaluation(perturbation, rows=slice(number * count, (number + 1) * count))
        for leaf in leaves:
            value = state_values[leaf.name] if leaf.op == STATE else inputs[leaf.op]
            evaluation.values[leaf] = value
            leaf_values[leaf].append(value)
        updates.append(np.broadcast_to(evaluation(graph.update), (count, *_FULL)))
        state_values = {
            name: np.broadcast_to(evaluation(node), (count, *_SHAPES[kinds[name]]))
            for name, node in graph.next_values.items()
        }
    stacked = {leaf: np.concatenate(steps) for leaf, steps in leaf_values.items()}
    return Trajectory(stacked, np.stack(updates))
