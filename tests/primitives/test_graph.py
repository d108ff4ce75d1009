"""Tests of dataflow graphs and pictures: completeness, and layout without overlaps."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import networkx as nx
import pytest
from hypothesis import given, settings

from primitives import analyse, parse, to_dot, to_graph, to_svg, zoo
from primitives.explain.layout import arrange, box, crossings, layer_numbers
from primitives.explain.svg import _STYLE
from tests.strategies import programs

SVG = "{http://www.w3.org/2000/svg}"


def by_role(graph, role):
    return {data["label"] for _, data in graph.nodes(data=True) if data["role"] == role}


def forward(graph):
    return nx.DiGraph((u, v) for u, v, loop in graph.edges(data="loop") if not loop)


def loops(graph):
    return {
        (graph.nodes[u]["caption"], graph.nodes[v]["label"])
        for u, v, loop in graph.edges(data="loop")
        if loop
    }


def test_the_graph_of_lion_has_its_inputs_ops_and_one_loop():
    graph = to_graph(zoo.load("lion"))
    assert by_role(graph, "input") == {"w", "g", "lr"}
    assert by_role(graph, "state") == {"m"}
    assert by_role(graph, "constant") == {"0.9", "0.99", "0.1", "0.0001"}
    assert by_role(graph, "op") == {"interp", "sign", "+", "\N{MULTIPLICATION SIGN}"}
    assert loops(graph) == {("m", "m")}
    marks = [m for *_, m in graph.in_edges("statement 1", data="mark")]
    assert sorted(marks) == ["a", "x", "y"]


def test_graphs_omit_dead_statements_and_copies():
    graph = to_graph(
        parse("def train(w, g, v):\n  d = sin(w)\n  v = d + v\n  c = g\n  u = c\n  return u, v")
    )
    assert set(graph.edges) == {("input g", "update")}


def test_a_value_used_as_both_operands_has_two_arrows():
    graph = to_graph(parse("def train(w, g):\n  u = g * g\n  v = power(u, u)\n  return v"))
    assert graph.edges["input g", "statement 1"]["operand_indices"] == (0, 1)
    assert graph.edges["statement 1", "statement 2"]["mark"] == "x, y"
    assert to_svg(graph).count("url(#arrow)") == 5


def test_the_next_state_can_be_the_state_an_input_or_a_constant():
    graph = to_graph(
        parse(
            "def train(w, g, a: tensor(1.0), b, c):\n  u = a * b * c\n  b = w\n  c = 0.5\n"
            "  return u, a, b, c"
        )
    )
    assert {(u, v) for u, v, loop in graph.edges(data="loop") if loop} == {
        ("state a", "state a"),
        ("input w", "state b"),
        ("constant 4.1", "state c"),
    }
    assert_readable(graph)


@settings(max_examples=100)
@given(programs(max_statements=40))
def test_the_graph_has_exactly_the_live_dataflow(program):
    analysis, graph = analyse(program), to_graph(program)
    copies = sum(program.statements[i].op == "identity" for i in analysis.live_statements)
    ops = [n for n, role in graph.nodes(data="role") if role == "op"]
    assert len(ops) == len(analysis.live_statements) - copies
    assert len(by_role(graph, "state")) == len(analysis.live_states)
    assert sum(loop for *_, loop in graph.edges(data="loop")) == len(analysis.live_states)
    flow = forward(graph)
    assert nx.is_directed_acyclic_graph(flow)
    assert list(graph.successors("update")) == []
    numbers = layer_numbers(graph)
    assert all(numbers[u] < numbers[v] for u, v in flow.edges)


def boxes(root):
    """Yield (left, top, right, bottom) of each box."""
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        yield x, y, x + w, y + h


def arrow_points(root):
    """Yield the points of each arrow, control points of curves included."""
    for path in root.iter(f"{SVG}path"):
        if not path.get("marker-end"):
            continue
        points, x, y = [], 0.0, 0.0
        for command, rest in re.findall(r"([MHLCQ])([^MHLCQ]*)", path.get("d")):
            values = [float(v) for v in rest.split()]
            if command == "H":
                points.append((values[0], y))
            else:
                points += list(zip(values[::2], values[1::2], strict=True))
            x, y = points[-1]
        assert x >= 0
        yield points


def assert_readable(graph):
    root = ET.fromstring(to_svg(graph))
    _, _, width, height = map(float, root.get("viewBox").split())
    placed = list(boxes(root))
    assert len(placed) == len(graph)
    for left, top, right, bottom in placed:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    for a, b in combinations(placed, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for points in arrow_points(root):
        for (x, y), (to_x, to_y) in pairwise(points):
            assert 0 <= to_x <= width
            assert 0 <= to_y <= height
            if y == to_y and to_x > x:  # a horizontal segment must not cross a box
                for left, top, right, bottom in placed:
                    through = left + 1 < to_x and x < right - 1 and top + 1 < y < bottom - 1
                    assert not through


def test_operand_names_do_not_overlap_the_label():
    for group in ET.fromstring(to_svg(to_graph(zoo.load("eg_step_size")))).iter(f"{SVG}g"):
        label = group.find(f"{SVG}text")
        if label.text == "clamp":
            left = float(group.find(f"{SVG}rect").get("x"))
            starts = float(label.get("x")) - 7.3 * len("clamp") / 2
            assert starts - left >= 5.8 * len("high") + 4


@settings(max_examples=60)
@given(programs(max_statements=40))
def test_pictures_have_no_overlapping_boxes_and_no_arrows_through_boxes(program):
    assert_readable(to_graph(program))


@pytest.mark.parametrize("name", zoo.names())
def test_pictures_of_the_zoo_are_readable(name):
    assert_readable(to_graph(zoo.load(name)))


def test_few_arrows_cross():
    for name, most in {"sgd": 0, "lion": 3, "adamw": 3, "adafactor": 3}.items():
        assert crossings(arrange(to_graph(zoo.load(name)))[1]) <= most


def test_rows_and_arrows_follow_the_order_of_operands():
    _, layers = arrange(to_graph(parse("def train(w, g):\n  u = g / w\n  return u")))
    assert layers.above[box("statement 1")] == [box("input g"), box("input w")]


def test_dot_quotes_special_characters_in_names():
    graph = to_graph(zoo.load("adafactor"))
    graph.nodes["input g"]["label"] = 'a"b\\c\nd'
    text = to_dot(graph)
    assert r'label="a\"b\\c\nd"' in text
    assert text.count("style=dashed") == 2
    quoted = r'"(?:[^"\\]|\\.)*"'
    value = rf"(?:{quoted}|\w+)"
    attributes = rf"\[\w+={value}(?:, \w+={value})*\]"
    for line in text.splitlines()[3:-1]:
        assert re.fullmatch(rf"    {quoted}(?: -> {quoted})?(?: {attributes})?;", line), line


def test_svg_escapes_markup_in_names():
    graph = to_graph(zoo.load("sgd"))
    graph.nodes["input g"]["label"] = '<g> & "g"'
    assert '<g> & "g"' in [t.text for t in ET.fromstring(to_svg(graph)).iter(f"{SVG}text")]


def test_svg_pictures_are_self_contained():
    text = to_svg(to_graph(zoo.load("lion")))
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert _STYLE in text
