"""The code of ops in JAX and in PyTorch, and the helper functions that this code calls."""

from __future__ import annotations

import ast
import re

from primitives.export import source
from primitives.graph.nodes import CONSTANT, HYPERPARAMETER, Node
from primitives.graph.ranges import Ranges
from primitives.kinds import Kind

_COMPARISON = re.compile("_0 (>|==) _1")


class Dialect:
    """Writes ops in one target's code, and collects the helper functions that the code calls.

    Args:
        ranges: the interval of each value. An op is written without a guard if its operands cannot
            leave its domain, such as a division whose divisor cannot be zero.

    Attributes:
        namespace: the name of the array library in the file.
        helpers: the definition of each helper function.
        used_helpers: the names of the helper functions that were used.
    """

    namespace = ""
    helpers: dict[str, str] = {}

    def __init__(self, ranges: Ranges):
        self.ranges = ranges
        self.used_helpers: set[str] = set()

    def write(self, value: Node, args: list[ast.expr]) -> tuple[str, dict[str, ast.expr]]:
        """Return the code of an op.

        Args:
            value: the result of the op.
            args: the expressions of the operands. Constants are replaced in place by literals where
                the target accepts them.

        Returns:
            The code, in which `_0`, `_1`, ... are the operands, and the expressions of the other
            names that occur in it.
        """
        if value.op_entry.infix and not all(arg.is_constant for arg in value.args):
            for index, arg in enumerate(value.args):
                if arg.is_constant and not arg.name:
                    args[index] = source.literal(arg.value)
        exponent = value.args[-1]
        if value.op == "power" and exponent.is_constant and isinstance(args[1], ast.Constant):
            args[1] = source.literal(exponent.value)
        code = self._code(value)
        self.used_helpers |= {
            node.id
            for node in ast.walk(source.template(code))
            if isinstance(node, ast.Name) and node.id in self.helpers
        }
        return code, {"xp": source.name(self.namespace)}

    def _code(self, value: Node) -> str:
        op_entry = value.op_entry
        if op_entry.guarded_code and not op_entry.code_valid(*map(self.ranges, value.args)):
            return op_entry.guarded_code
        if op_entry.matrixwise and value.kind <= Kind.LEAF:
            return self.template(value).replace("_0", "_0.reshape(1, 1)") + ".reshape(())"
        code = self.template(value)
        if value.op in ("greater", "equal") and value.args[0].is_constant:
            # Write the constant last: `x < 0.5` instead of `0.5 > x`.
            return _COMPARISON.sub(r"_1 \1 _0", code).replace("_1 > _0", "_1 < _0")
        return code

    def template(self, value: Node) -> str:
        """Return the code of an op, without a guard for operands outside of its domain."""
        assert value.op_entry.code is not None, value.op
        return value.op_entry.code

    def helper_lines(self) -> list[str]:
        """Return the definitions of the helper functions used, each after two blank lines."""
        needed = set(self.used_helpers)
        if "_orthogonalize" in needed:
            needed.add("_divide")
        lines: list[str] = []
        for name, text in self.helpers.items():
            if name in needed:
                lines += ["", "", *text.strip("\n").split("\n")]
        return lines


class Jax(Dialect):
    """Code over `jax.numpy`."""

    namespace = "jnp"
    helpers = {
        "_divide": '''
def _divide(x, y):
    """x / y, and 0 where y is 0."""
    return jnp.where(y == 0, 0.0, x / jnp.where(y == 0, 1.0, y))
''',
        "_power": '''
def _power(x, y):
    """x to the y, and 0 where x is 0 and y negative."""
    singular = (x == 0) & (y < 0)
    return jnp.where(singular, 0.0, jnp.power(jnp.where(singular, 1.0, x), y))
''',
        "_mod": '''
def _mod(x, y):
    """x modulo y, with the sign of y, and 0 where y is 0."""
    return jnp.where(y == 0, 0.0, jnp.mod(x, jnp.where(y == 0, 1.0, y)))
''',
        "_orthogonalize": '''
def _orthogonalize(x):
    """Five Newton-Schulz steps from each matrix towards the nearest orthogonal one."""
    wide = x if x.shape[-2] <= x.shape[-1] else jnp.swapaxes(x, -1, -2)
    u = _divide(wide, jnp.linalg.norm(wide, axis=(-2, -1), keepdims=True))
    for _ in range(5):
        gram = u @ jnp.swapaxes(u, -1, -2)
        u = 3.4445 * u + (-4.775 * gram + 2.0315 * gram @ gram) @ u
    return u if wide is x else jnp.swapaxes(u, -1, -2)
''',
    }


class Torch(Dialect):
    """Code over `torch`. Values of kind scalar are Python numbers where `is_python_number` is true.

    Attributes:
        like: the name of the tensor whose type and device converted numbers get.
    """

    namespace = "torch"
    helpers = {
        "_tensor": '''
def _tensor(x: float | Tensor, like: Tensor) -> Tensor:
    """`x` as a tensor with the type and on the device of `like`."""
    return torch.as_tensor(x, dtype=like.dtype, device=like.device)
''',
        "_divide": '''
def _divide(x: float | Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 where y is 0."""
    return torch.where(y == 0, 0.0, x / y)
''',
        "_power": '''
def _power(x: Tensor, y: Tensor) -> Tensor:
    """x to the y, and 0 where x is 0 and y negative."""
    return torch.where((x == 0) & (y < 0), 0.0, x**y)
''',
        "_mod": '''
def _mod(x: Tensor, y: Tensor) -> Tensor:
    """x modulo y, with the sign of y, and 0 where y is 0."""
    return torch.where(y == 0, 0.0, torch.remainder(x, y))
''',
        "_cbrt": '''
def _cbrt(x: Tensor) -> Tensor:
    """The cube root, that of negative numbers too."""
    return torch.sign(x) * torch.abs(x) ** (1 / 3)
''',
        "_orthogonalize": '''
def _orthogonalize(x: Tensor) -> Tensor:
    """Five Newton-Schulz steps from each matrix towards the nearest orthogonal one."""
    wide = x if x.shape[-2] <= x.shape[-1] else x.mT
    u = _divide(wide, torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True))
    for _ in range(5):
        gram = u @ u.mT
        u = 3.4445 * u + (-4.775 * gram + 2.0315 * gram @ gram) @ u
    return u if wide is x else u.mT
''',
    }

    def __init__(self, ranges: Ranges):
        super().__init__(ranges)
        self.like = "grad"
        self._is_python_number_cache: dict[Node, bool] = {}

    def is_python_number(self, value: Node) -> bool:
        """Whether `value` is a Python number.

        A value is a Python number if all operands are Python numbers and Python's arithmetic can
        neither overflow nor give a complex number.
        """
        if value not in self._is_python_number_cache:
            is_leaf = value.op in (CONSTANT, HYPERPARAMETER, "t", "lr")
            self._is_python_number_cache[value] = is_leaf or self._is_python_op(value)
        return self._is_python_number_cache[value]

    def _is_python_op(self, value: Node) -> bool:
        op_entry = value.op_entry
        if op_entry.python is None or not all(map(self.is_python_number, value.args)):
            return False
        return op_entry.python_valid(*map(self.ranges, value.args))

    def write(self, value: Node, args: list[ast.expr]) -> tuple[str, dict[str, ast.expr]]:
        """Return the code of an op; Python numbers are converted where PyTorch needs tensors.

        See `Dialect.write`.
        """
        code, other_names = super().write(value, args)
        for index in self._operands_to_convert(value, code):
            code = re.sub(rf"\b_{index}\b", f"_tensor(_{index}, like)", code)
            self.used_helpers.add("_tensor")
        return code, other_names | {"like": source.name(self.like)}

    def _operands_to_convert(self, value: Node, code: str) -> list[int]:
        """Return the indices of operands that are Python numbers but must be tensors."""
        if self.is_python_number(value):
            return []
        numbers = [index for index, arg in enumerate(value.args) if self.is_python_number(arg)]
        if code == value.op_entry.guarded_code and code.startswith("_"):
            is_divide_helper = value.op == "divide"  # a dividend may be a number; a divisor may not
            return [index for index in numbers if index or not is_divide_helper]
        if value.op == "where":
            has_both_branches = {1, 2} <= set(numbers)
            return [index for index in numbers if index == 0 or (has_both_branches and index == 1)]
        if not _passes_operands(code):  # Python's operators need only one tensor operand
            return numbers[:1] if len(numbers) == len(value.args) else []
        if value.op in ("maximum", "minimum") and len(numbers) == 1:
            return []
        return numbers

    def template(self, value: Node) -> str:
        """Return the code of an op; see `Dialect.template`."""
        op_entry = value.op_entry
        if op_entry.python and self.is_python_number(value):
            return op_entry.python
        if value.op in ("maximum", "minimum"):
            bound = {"maximum": "min", "minimum": "max"}[value.op]  # the argument of torch.clamp
            for tensor, number in ((0, 1), (1, 0)):
                if self.is_python_number(value.args[number]) and not self.is_python_number(
                    value.args[tensor]
                ):
                    return f"torch.clamp(_{tensor}, {bound}=_{number})"
        return op_entry.torch or super().template(value)


def _passes_operands(code: str) -> bool:
    """Whether `code` passes an operand, unchanged, to a function of the target's library."""
    calls = [node for node in ast.walk(source.template(code)) if isinstance(node, ast.Call)]
    args = [arg for call in calls if isinstance(call.func, ast.Attribute) for arg in call.args]
    return any(isinstance(arg, ast.Name) and re.fullmatch(r"_\d", arg.id) for arg in args)
