"""Programs as graphs: how values flow through one step, and from each step to the next."""

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
"""The node that stands for the change of the weights."""

_SIGNS = {"+": "+", "-": "\N{MINUS SIGN}", "*": "\N{MULTIPLICATION SIGN}", "/": "\N{DIVISION SIGN}"}


def to_graph(program: Program) -> Graph:
    """The live dataflow of `program`.

    Nodes have a `role` (input, constant, op, state or update), a `label`, a `caption` (the name of
    the value, or the kind of a state that is no tensor; may be empty) and a `kind`. Each constant
    is a node of its own where it is used; copies are left out.

    Edges go from a value to where it is used and have `places`, the operands that it is, and
    `mark`, their names where their order matters. An edge from a state's new value back to the
    state has `loop` True; without those the graph has no cycles.

    Raises:
        ProgramError: the program is ill-kinded.
    """
    return _Builder(program).graph()


class _Builder(StatementGraph):
    """Adds the nodes that an update depends on, each after its operands."""

    def __init__(self, program: Program):
        super().__init__(program)
        import networkx as nx  # here, because only pictures need it and it takes 0.1 s

        self.built = nx.DiGraph()
        self.boxes: dict[Node, str] = {}

    def graph(self) -> Graph:
        read = {self.update, *self.live_states}.union(*(one.args for one in self.live_statements))
        for leaf in self.parameters:
            if leaf in read:
                role = "state" if leaf.op == STATE else "input"
                caption = str(leaf.kind) if role == "state" and leaf.kind != Kind.TENSOR else ""
                self.boxes[leaf] = f"{role} {leaf.name}"
                self._add(self.boxes[leaf], role, leaf.name, caption, leaf.kind)
        for statement in self.live_statements:
            self._statement(statement)
        self._add(UPDATE, UPDATE, _weights(self.program.weight), "", Kind.TENSOR)
        self._connect(self.boxes[self.update], UPDATE, 0, "")
        for state in self.live_states:
            new = self.boxes[self.following[state]]
            self.built.add_edge(new, self.boxes[state], loop=True, places=(), mark="")
        return self.built

    def _statement(self, statement: Node) -> None:
        for arg in statement.args:
            if arg.is_constant:
                self._box_of(arg)
        if statement.op == "identity":
            self.boxes[statement] = self.boxes[statement.args[0]]
            return
        op = statement.row
        box = self.boxes[statement] = f"statement {self.index(statement) + 1}"
        self._add(box, "op", _label(op), statement.name, statement.kind)
        ordered = op.arity > 1 and not op.commutative
        for place, arg in enumerate(statement.args):
            self._connect(self.boxes[arg], box, place, op.operand_names[place] if ordered else "")

    def _box_of(self, constant: Node) -> None:
        index, place = self.places[constant]
        self.boxes[constant] = f"constant {index + 1}.{place + 1}"
        label = formula(constant.value).plain()
        self._add(self.boxes[constant], "constant", label, "", Kind.SCALAR)

    def _add(self, box: str, role: str, label: str, caption: str, kind: Kind) -> None:
        self.built.add_node(box, role=role, label=label, caption=caption, kind=str(kind))

    def _connect(self, source: str, box: str, place: int, mark: str) -> None:
        known = self.built.get_edge_data(source, box) or {"places": (), "mark": ""}
        marks = ", ".join(filter(None, (known["mark"], mark)))
        self.built.add_edge(source, box, loop=False, places=(*known["places"], place), mark=marks)


def _weights(name: str) -> str:
    return f"{name} \N{LEFTWARDS ARROW} {name} \N{MINUS SIGN} update"


def _label(op: Op) -> str:
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
    """`graph`, from `to_graph`, in Graphviz's language; states' loops are dashed."""
    lines = ["digraph program {", "    rankdir=LR;", '    node [fontname="monospace"];']
    for node, data in graph.nodes(data=True):
        label = "\n".join(filter(None, (data["label"], data["caption"])))
        lines.append(f"    {_quoted(node)} [label={_quoted(label)}, {_SHAPES[data['role']]}];")
    for source, target, data in graph.edges(data=True):
        notes = ["style=dashed, constraint=false"] if data["loop"] else []
        notes += [f"headlabel={_quoted(data['mark'])}"] if data["mark"] else []
        suffix = f" [{', '.join(notes)}]" if notes else ""
        lines.append(f"    {_quoted(source)} -> {_quoted(target)}{suffix};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = (
        printable(text, keep="\n").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    )
    return f'"{escaped}"'
