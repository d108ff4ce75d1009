"""From a raw winner to a rule that a person understands, every step shown and allowed."""

from evosearch.simplification.record import Ablation, Cost, Simplification, Step
from evosearch.simplification.simplifier import simplify, simplify_by_algebra

__all__ = ["Ablation", "Cost", "Simplification", "Step", "simplify", "simplify_by_algebra"]
