"""Programs as graphs: how values flow through one step, and from each step to the next."""

from __future__ import annotations

from typing import Any

from primitives.graph.analysis import Analysis, analyse
from primitives.kinds import Kind
from primitives.op import Op
from primitives.ops import OPS
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
    return _Builder(analyse(program)).graph()


class _Builder:
    """Adds the nodes that an update depends on, each after its operands."""

    def __init__(self, analysis: Analysis):
        import networkx as nx  # here, because only pictures need it and it takes 0.1 s

        self.analysis = analysis
        self.program = analysis.program
        self.built = nx.DiGraph()
        self.nodes: dict[int, str] = {}  # by value

    def graph(self) -> Graph:
        for number in self._read():
            name, kind = self.program.parameters[number].name, self.analysis.kinds[number]
            is_state = number in self.analysis.next_value
            role = "state" if is_state else "input"
            caption = str(kind) if is_state and kind != Kind.TENSOR else ""
            self.nodes[number] = f"{role} {name}"
            self._add(self.nodes[number], role, name, caption, kind)
        for index in self.analysis.live_statements:
            self._statement(index)
        self._add(UPDATE, UPDATE, _weights(self.program.weight), "", Kind.TENSOR)
        self._connect(self.nodes[self.analysis.outputs[0]], UPDATE, 0, "")
        for state in self.analysis.live_states:
            new = self.nodes[self.analysis.next_value[state]]
            self.built.add_edge(new, self.nodes[state], loop=True, places=(), mark="")
        return self.built

    def _read(self) -> list[int]:
        """The parameters that the live part of the program reads."""
        read = {self.analysis.outputs[0], *self.analysis.live_states}
        for index in self.analysis.live_statements:
            read |= {one for one in self.analysis.operands[index] if type(one) is int}
        return [number for number in range(len(self.program.parameters)) if number in read]

    def _statement(self, index: int) -> None:
        target, name, _ = self.program.statements[index]
        value = len(self.program.parameters) + index
        operands = self.analysis.operands[index]
        sources = [self._source(index, place, one) for place, one in enumerate(operands)]
        if name == "identity":
            self.nodes[value] = sources[0]
            return
        op = OPS[name]
        node = self.nodes[value] = f"statement {index + 1}"
        self._add(node, "op", _label(op), target, self.analysis.kinds[value])
        ordered = op.arity > 1 and not op.commutative
        for place, source in enumerate(sources):
            self._connect(source, node, place, op.operand_names[place] if ordered else "")

    def _source(self, index: int, place: int, operand: int | float) -> str:
        if type(operand) is int:
            return self.nodes[operand]
        node = f"constant {index + 1}.{place + 1}"
        self._add(node, "constant", formula(operand).plain(), "", Kind.SCALAR)
        return node

    def _add(self, node: str, role: str, label: str, caption: str, kind: Kind) -> None:
        self.built.add_node(node, role=role, label=label, caption=caption, kind=str(kind))

    def _connect(self, source: str, node: str, place: int, mark: str) -> None:
        known = self.built.get_edge_data(source, node) or {"places": (), "mark": ""}
        marks = ", ".join(filter(None, (known["mark"], mark)))
        self.built.add_edge(source, node, loop=False, places=(*known["places"], place), mark=marks)


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
