"""Algebra: simplification of programs by rewrite rules, without training."""

from primitives.algebra.derivation import Derivation, ProbeError, Step, simplify
from primitives.algebra.rule import Domain

__all__ = ["Derivation", "Domain", "ProbeError", "Step", "simplify"]
