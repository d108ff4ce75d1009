"""Numeric checks of rewrites: both sides are computed in float64 on adversarial probe streams.

A stream is a sequence of weights and gradients of a model with two arrays, each of two matrices.
Streams are stacked along the first axis, so that one NumPy call applies an op to all streams. Every
value is also computed three more times, with each op's result perturbed by about one float32
rounding error. Two values count as equal where their difference is at most a multiple of the
changes that the perturbations cause, since float32 arithmetic cannot distinguish such values.
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
_ROUNDING = 2.0**-23  # distance from 1 to the next float32
_MAX_ROUNDING_ERRORS = 256
_NOISE_SIZE = 2**16
_PERTURBATIONS = (1, 2, 3)  # seeds of the perturbed evaluations; 0 means no perturbation
_SMALLEST_DIFFERENCE = 1e-37  # float32 may flush smaller numbers to zero; includes a safety factor
_ARRAYS, _MATRICES, _ROWS, _COLS = 2, 2, 2, 3
_FULL = (_ARRAYS, _MATRICES, _ROWS, _COLS)
_KIND_SHAPES = {
    Kind.SCALAR: (1, 1, 1, 1),
    Kind.LEAF: (_ARRAYS, 1, 1, 1),
    Kind.MATRIX: (_ARRAYS, _MATRICES, 1, 1),
    Kind.ROW: (_ARRAYS, _MATRICES, _ROWS, 1),
    Kind.COL: (_ARRAYS, _MATRICES, 1, _COLS),
    Kind.TENSOR: _FULL,
}
_REDUCED_AXES = {
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
        weights: [steps, streams, arrays, matrices, rows, columns] float64.
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
    zero_at_first = normal() * (np.arange(STEPS) > 1).reshape(-1, 1, 1, 1, 1)
    of_mixed_magnitudes = normal() * 10.0 ** rng.uniform(-15, 15, size=(STEPS, *_FULL))
    pairs += [(normal(), normal()), (normal(0.1), normal(10.0)), (normal(), sparse)]
    pairs += [(np.zeros_like(sparse), zero_at_first), (normal(), of_mixed_magnitudes)]
    pairs += [(normal(scale), normal(scale)) for scale in (1e16, 1e-16, 1e-42)]
    pairs.append((np.rint(normal()), np.rint(normal())))
    weights, grads = (np.stack(arrays, axis=1) for arrays in zip(*pairs, strict=True))
    return Streams(weights, grads, np.linspace(1.0, 0.2, STEPS))


@cache
def _noise_pool() -> Array:
    """Return random factors that differ from 1 by about a rounding error, [_NOISE_SIZE]."""
    rng = np.random.default_rng(7)
    return 1 + _ROUNDING * rng.uniform(0.5, 1.0, _NOISE_SIZE) * rng.choice([-1.0, 1.0], _NOISE_SIZE)


def _noise(kind: Kind, seed: int) -> Array:
    """Return factors near 1 for a value of a kind, for all steps and streams."""
    shape = (_stacked_count(), *_KIND_SHAPES[kind])
    size = math.prod(shape)
    start = seed * 7919 % (_NOISE_SIZE - size)
    return _noise_pool()[start : start + size].reshape(shape)


def apply(node: Node, args: list[Array]) -> Array:
    """Return the result of the op of `node` on stacked values."""
    op = node.op_entry
    if op.reduction is None:
        return op.meaning(np, *args)
    inputs = op.reduction.inputs(np, *np.broadcast_arrays(*args))
    axes = _REDUCED_AXES[op.reduction.kind]
    reduce_array = np.sum if op.reduction.method == "sum" else np.mean
    totals = tuple(reduce_array(array, axis=axes, keepdims=True) for array in inputs)
    return op.meaning(np, totals, *args)


@dataclass
class Evaluation:
    """Evaluates nodes on the streams.

    Attributes:
        perturbation: the seed of the perturbations of each op's result; 0 means no perturbation.
        values: the values computed so far; the values of leaves must be set before evaluation.
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
        """Return the operands, perturbed if the op adds them up and so may cancel them."""
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

    A rewrite of values does not change the values of states. So a probe of a graph is also valid
    for all graphs that rewrites of values make from this graph.
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
        """Return a node's value, [steps * streams, arrays, matrices, rows, columns] float64."""
        with np.errstate(all="ignore"):
            return self._unperturbed(node)

    def agrees(self, old: Node, new: Node, domain: Domain) -> bool:
        """Return whether `new` equals `old` on all streams, wherever `domain` requires it."""
        with np.errstate(all="ignore"):
            old_value, new_value = self._unperturbed(old), self._unperturbed(new)
            perturbed_old = [evaluate(old) for evaluate in self._perturbed]
            perturbed_new = [evaluate(new) for evaluate in self._perturbed]
            is_equal = _are_close(old_value, perturbed_old, new_value, perturbed_new)
            if domain > Domain.ALWAYS:
                is_equal = is_equal | ~self._is_in_range(old)
            return bool(np.all(is_equal))

    def same_updates(self, other: Graph, domain: Domain) -> bool:
        """Return whether `other` has the probed graph's updates wherever `domain` requires it."""
        with np.errstate(all="ignore"):
            perturbed_updates, perturbed_other_updates = (
                [run(graph, seed).update for seed in _PERTURBATIONS]
                for graph in (self.graph, other)
            )
            is_equal = _are_close(
                self._exact.update,
                perturbed_updates,
                run(other, 0).update,
                perturbed_other_updates,
            )
            if domain > Domain.ALWAYS:
                is_equal = is_equal | self._was_out_of_range()
            return bool(np.all(is_equal))

    def _was_out_of_range(self) -> Array:
        """Return where a value of this or an earlier step was out of range.

        The shape is [steps, streams, 1, 1, 1, 1].
        """
        out_of_range = np.zeros((STEPS, streams().weights.shape[1], 1, 1, 1, 1), bool)
        for root in self.graph.roots:
            in_range = np.broadcast_to(self._is_in_range(root), (_stacked_count(), *_FULL))
            in_range = in_range.reshape(STEPS, -1, *_FULL)
            out_of_range |= ~in_range.all(axis=(2, 3, 4, 5), keepdims=True)
        return np.logical_or.accumulate(out_of_range, axis=0)

    def _is_in_range(self, root: Node) -> Array:
        """Return where `root` and all nodes below are finite and have not underflowed."""
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
            has_underflowed = value == 0
            for arg in node.args:
                has_underflowed = has_underflowed & (self._unperturbed(arg) != 0)
            in_range = in_range & ~has_underflowed
        for arg in node.args:
            arg_in_range = self._is_in_range(arg)
            if op.mixes_numbers:
                arg_in_range = arg_in_range.all(axis=(1, 2, 3, 4), keepdims=True)
            in_range = in_range & arg_in_range
        return in_range


def _stacked_count() -> int:
    """Return the length of the axis [steps * streams]."""
    return STEPS * int(streams().weights.shape[1])


def _are_close(
    old: Array, perturbed_old: list[Array], new: Array, perturbed_new: list[Array]
) -> Array:
    """Return where `old` and `new` differ by at most a few rounding errors.

    The size of rounding errors is estimated from the perturbed values. Where a perturbation makes
    a finite old value infinite or NaN, the old and the new value count as close.
    """
    old_error = reduce(np.maximum, [np.abs(old - value) for value in perturbed_old])
    new_error = reduce(np.maximum, [np.abs(new - value) for value in perturbed_new])
    old_error = old_error + _ROUNDING * np.abs(old)
    is_unstable = ~np.isfinite(old_error) & np.isfinite(old)
    difference = np.abs(old - new)
    tolerance = _MAX_ROUNDING_ERRORS * (old_error + new_error) + _SMALLEST_DIFFERENCE
    is_near = np.isfinite(difference) & (difference <= tolerance)
    return (old == new) | (np.isnan(old) & np.isnan(new)) | is_near | is_unstable


@dataclass(frozen=True)
class Trajectory:
    """The values that a graph takes on the streams.

    Attributes:
        values: the values of each leaf, with a first axis [steps * streams].
        update: [steps, streams, arrays, matrices, rows, columns] float64.
    """

    values: Mapping[Node, Array]
    update: Array


def run(graph: Graph, perturbation: int) -> Trajectory:
    """Run `graph` on the streams.

    Args:
        graph: the graph.
        perturbation: the seed of the perturbations of each op's result; 0 means no perturbation.
    """
    probes = streams()
    stream_count = probes.weights.shape[1]
    leaves = [node for node in graph.live if node.is_leaf]
    state_shapes = {state.name: (stream_count, *_KIND_SHAPES[state.kind]) for state in graph.states}
    state_values: dict[str, Array] = {
        state.name: np.full(state_shapes[state.name], np.float32(state.initial), np.float64)
        for state in graph.states
    }
    leaf_values: dict[Node, list[Array]] = {leaf: [] for leaf in leaves}
    updates = []
    for index in range(STEPS):
        inputs = {
            WEIGHTS: probes.weights[index],
            GRADIENT: probes.grads[index],
            "lr": np.full((stream_count, 1, 1, 1, 1), probes.lr[index]),
            "t": np.full((stream_count, 1, 1, 1, 1), index + 1.0),
        }
        rows = slice(index * stream_count, (index + 1) * stream_count)
        evaluation = Evaluation(perturbation, rows=rows)
        for leaf in leaves:
            value = state_values[leaf.name] if leaf.op == STATE else inputs[leaf.op]
            evaluation.values[leaf] = value
            leaf_values[leaf].append(value)
        updates.append(np.broadcast_to(evaluation(graph.update), (stream_count, *_FULL)))
        state_values = {
            name: np.broadcast_to(evaluation(node), state_shapes[name])
            for name, node in graph.next_values.items()
        }
    stacked_values = {leaf: np.concatenate(steps) for leaf, steps in leaf_values.items()}
    return Trajectory(stacked_values, np.stack(updates))
