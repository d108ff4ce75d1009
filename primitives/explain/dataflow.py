"""Conversion of programs to networkx graphs and to Graphviz's DOT language.

A graph shows how values flow through one step, and which values become the next states.
"""

from __future__ import annotations

from typing import Any

from primitives.graph.nodes import STATE, Node
from primitives.graph.statements import StatementGraph
from primitives.kinds import Kind
from primitives.op import Op
from primitives.program import Program
from primitives.text.formula import formula
from primitives.text.printable import printable

Graph = Any  # networkx.DiGraph

UPDATE = "update"
"""Name of the node that represents the change of the weights."""

_SIGNS = {"+": "+", "-": "\N{MINUS SIGN}", "*": "\N{MULTIPLICATION SIGN}", "/": "\N{DIVISION SIGN}"}


def to_graph(program: Program) -> Graph:
    """Return the dataflow of the live part of `program` as a directed graph.

    Each use of a constant has its own node. Copies (the op `identity`) have no node.

    Node attributes:

    - `role`: `input`, `constant`, `op`, `state` or `update`.
    - `label`: the text in the node's box.
    - `caption`: the name of an op's result, or the kind of a state that is not a tensor;
      otherwise empty.
    - `kind`: the kind of the value.

    Edges go from a value to the op that uses it. Edge attributes:

    - `operand_indices`: the indices of the op's operands that are this value.
    - `mark`: the names of these operands if the order of the op's operands matters, else empty.
    - `loop`: True for an edge from the next value of a state back to the state. Without these
      edges the graph has no cycles.

    Args:
        program: the program to convert.

    Returns:
        A `networkx.DiGraph`.

    Raises:
        ProgramError: the program is not valid.

    Example:
        >>> from primitives import zoo
        >>> graph = to_graph(zoo.load("sgd"))
        >>> list(graph.edges)[0]
        ('input g', 'statement 1')
        >>> graph.nodes["input g"]["role"]
        'input'
    """
    return _Builder(program).build()


class _Builder(StatementGraph):
    """Adds all nodes that an update depends on, each after its operands."""

    def __init__(self, program: Program):
        super().__init__(program)
        import networkx as nx  # not at the top: only graphs need it, and it takes 0.1 s

        self.graph = nx.DiGraph()
        self.node_names: dict[Node, str] = {}  # the name of each value's node

    def build(self) -> Graph:
        read_values = {self.update, *self.live_states}.union(
            *(statement.args for statement in self.live_statements)
        )
        for leaf in self.parameters:
            if leaf in read_values:
                role = "state" if leaf.op == STATE else "input"
                caption = str(leaf.kind) if role == "state" and leaf.kind != Kind.TENSOR else ""
                self.node_names[leaf] = f"{role} {leaf.name}"
                self._add(self.node_names[leaf], role, leaf.name, caption, leaf.kind)
        for statement in self.live_statements:
            self._add_statement(statement)
        self._add(UPDATE, UPDATE, _update_label(self.program.weight), "", Kind.TENSOR)
        self._connect(self.node_names[self.update], UPDATE, 0, "")
        for state in self.live_states:
            next_value = self.node_names[self.next_values[state]]
            self.graph.add_edge(
                next_value, self.node_names[state], loop=True, operand_indices=(), mark=""
            )
        return self.graph

    def _add_statement(self, statement: Node) -> None:
        for arg in statement.args:
            if arg.is_constant:
                self._add_constant(arg)
        if statement.op == "identity":
            self.node_names[statement] = self.node_names[statement.args[0]]
            return
        op = statement.op_entry
        node_name = self.node_names[statement] = f"statement {self.index(statement) + 1}"
        self._add(node_name, "op", _op_label(op), statement.name, statement.kind)
        is_ordered = op.arity > 1 and not op.commutative
        for index, arg in enumerate(statement.args):
            mark = op.operand_names[index] if is_ordered else ""
            self._connect(self.node_names[arg], node_name, index, mark)

    def _add_constant(self, constant: Node) -> None:
        statement_index, operand_index = self.positions[constant]
        self.node_names[constant] = f"constant {statement_index + 1}.{operand_index + 1}"
        label = formula(constant.value).plain()
        self._add(self.node_names[constant], "constant", label, "", Kind.SCALAR)

    def _add(self, node_name: str, role: str, label: str, caption: str, kind: Kind) -> None:
        self.graph.add_node(node_name, role=role, label=label, caption=caption, kind=str(kind))

    def _connect(self, source: str, node_name: str, operand_index: int, mark: str) -> None:
        edge = self.graph.get_edge_data(source, node_name) or {"operand_indices": (), "mark": ""}
        marks = ", ".join(filter(None, (edge["mark"], mark)))
        operand_indices = (*edge["operand_indices"], operand_index)
        self.graph.add_edge(
            source, node_name, loop=False, operand_indices=operand_indices, mark=marks
        )


def _update_label(weight: str) -> str:
    return f"{weight} \N{LEFTWARDS ARROW} {weight} \N{MINUS SIGN} update"


def _op_label(op: Op) -> str:
    if op.infix is None:
        return op.name
    sign = _SIGNS[op.infix]
    return sign if op.commutative else f"x {sign} y"


_SHAPES = {
    "input": 'shape=box, style="rounded,filled", fillcolor="#dbeafe"',
    "constant": "shape=plaintext",
    "op": "shape=box",
    "state": 'shape=box, style="rounded,filled", fillcolor="#fde68a"',
    "update": 'shape=box, style="rounded,filled", fillcolor="#bbf7d0"',
}


def to_dot(graph: Graph) -> str:
    """Return `graph` in Graphviz's DOT language, with dashed edges for the loops of states.

    Args:
        graph: a graph that `to_graph` returned.

    Example:
        >>> from primitives import zoo
        >>> print(to_dot(to_graph(zoo.load("sgd"))).splitlines()[-2].strip())
        "statement 1" -> "update";
    """
    lines = ["digraph program {", "    rankdir=LR;", '    node [fontname="monospace"];']
    for node, data in graph.nodes(data=True):
        label = "\n".join(filter(None, (data["label"], data["caption"])))
        lines.append(f"    {_quoted(node)} [label={_quoted(label)}, {_SHAPES[data['role']]}];")
    for source, target, data in graph.edges(data=True):
        attributes = ["style=dashed, constraint=false"] if data["loop"] else []
        attributes += [f"headlabel={_quoted(data['mark'])}"] if data["mark"] else []
        suffix = f" [{', '.join(attributes)}]" if attributes else ""
        lines.append(f"    {_quoted(source)} -> {_quoted(target)}{suffix};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = (
        printable(text, keep="\n").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    )
    return f'"{escaped}"'
