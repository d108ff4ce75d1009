"""Simplification of programs by algebra and by measured edits, with every step recorded."""

from typing import TYPE_CHECKING, Any

from evosearch.simplification.algebra import simplify_by_algebra
from evosearch.simplification.record import Ablation, Cost, Simplification, Step

if TYPE_CHECKING:
    from evosearch.simplification.simplifier import simplify

__all__ = ["Ablation", "Cost", "Simplification", "Step", "simplify", "simplify_by_algebra"]


def __getattr__(name: str) -> Any:
    if name != "simplify":
        raise AttributeError(f"module 'evosearch.simplification' has no attribute {name!r}")
    from evosearch.simplification.simplifier import simplify  # here, since it imports JAX

    return simplify
