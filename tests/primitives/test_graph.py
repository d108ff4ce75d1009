"""Tests that graphs show the whole dataflow, and that their pictures have no overlaps."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from typing import NamedTuple

import networkx as nx
import pytest
from hypothesis import given, settings

from primitives import analyse, parse, to_dot, to_graph, to_svg, zoo
from primitives.explain.layout import arrange, box, crossings, layer_numbers
from primitives.explain.svg import _STYLE
from tests.strategies import programs

SVG = "{http://www.w3.org/2000/svg}"


def labels_with_role(graph, role):
    return {data["label"] for _, data in graph.nodes(data=True) if data["role"] == role}


def loop_edges(graph):
    """Return the edges from the next value of a state back to the state."""
    return {(source, target) for source, target, loop in graph.edges(data="loop") if loop}


def graph_within_a_step(graph):
    """Return the graph without its loop edges."""
    return nx.DiGraph(edge for edge in graph.edges if edge not in loop_edges(graph))


def test_the_graph_of_lion_has_its_inputs_ops_and_one_loop():
    graph = to_graph(zoo.load("lion"))
    assert labels_with_role(graph, "input") == {"w", "g", "lr"}
    assert labels_with_role(graph, "state") == {"m"}
    assert labels_with_role(graph, "constant") == {"0.9", "0.99", "0.1", "0.0001"}
    assert labels_with_role(graph, "op") == {"interp", "sign", "+", "\N{MULTIPLICATION SIGN}"}
    ((source, target),) = loop_edges(graph)
    assert graph.nodes[source]["caption"] == "m"
    assert graph.nodes[target]["label"] == "m"
    operand_names = [mark for *_, mark in graph.in_edges("statement 1", data="mark")]
    assert sorted(operand_names) == ["a", "x", "y"]


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
    assert loop_edges(graph) == {
        ("state a", "state a"),
        ("input w", "state b"),
        ("constant 4.1", "state c"),
    }
    assert_readable(graph)


@settings(max_examples=100)
@given(programs(max_statements=40))
def test_the_graph_has_exactly_the_live_dataflow(program):
    analysis, graph = analyse(program), to_graph(program)
    live_ops = [program.statements[index].op for index in analysis.live_statements]
    op_nodes = [node for node, role in graph.nodes(data="role") if role == "op"]
    assert len(op_nodes) == len([op for op in live_ops if op != "identity"])
    assert len(labels_with_role(graph, "state")) == len(analysis.live_states)
    assert len(loop_edges(graph)) == len(analysis.live_states)
    within_a_step = graph_within_a_step(graph)
    assert nx.is_directed_acyclic_graph(within_a_step)
    assert list(graph.successors("update")) == []
    layers = layer_numbers(graph)
    assert all(layers[source] < layers[target] for source, target in within_a_step.edges)


class Box(NamedTuple):
    """The sides of a box of a picture, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def boxes(root):
    """Yield the box of each node of a picture."""
    for group in root.iter(f"{SVG}g"):
        rectangle = group.find(f"{SVG}rect")
        x, y, width, height = (
            float(rectangle.get(attribute)) for attribute in ("x", "y", "width", "height")
        )
        yield Box(x, y, x + width, y + height)


def arrow_points(root):
    """Yield the points of each arrow, control points of curves included."""
    for path in root.iter(f"{SVG}path"):
        if not path.get("marker-end"):
            continue
        points, y = [], 0.0
        for command, coordinates in re.findall(r"([MHLCQ])([^MHLCQ]*)", path.get("d")):
            numbers = [float(number) for number in coordinates.split()]
            if command == "H":
                points.append((numbers[0], y))
            else:
                points += list(zip(numbers[::2], numbers[1::2], strict=True))
            y = points[-1][1]
        yield points


def assert_readable(graph):
    """Assert that the picture of a graph has no overlapping boxes and no arrows through boxes."""
    root = ET.fromstring(to_svg(graph))
    _, _, width, height = map(float, root.get("viewBox").split())
    all_boxes = list(boxes(root))
    assert len(all_boxes) == len(graph)
    for node_box in all_boxes:
        assert node_box.left >= 0
        assert node_box.top >= 0
        assert node_box.right <= width
        assert node_box.bottom <= height
    for first, second in combinations(all_boxes, 2):
        beside = first.right <= second.left or second.right <= first.left
        above_or_below = first.bottom <= second.top or second.bottom <= first.top
        assert beside or above_or_below
    for points in arrow_points(root):
        for (x, y), (next_x, next_y) in pairwise(points):
            assert 0 <= next_x <= width
            assert 0 <= next_y <= height
            if y == next_y and next_x > x:  # a horizontal segment
                for node_box in all_boxes:
                    overlaps_columns = node_box.left + 1 < next_x and x < node_box.right - 1
                    overlaps_rows = node_box.top + 1 < y < node_box.bottom - 1
                    assert not (overlaps_columns and overlaps_rows)


def test_operand_names_do_not_overlap_the_label():
    label_character_width, operand_character_width, gap = 7.3, 5.8, 4  # in pixels
    for group in ET.fromstring(to_svg(to_graph(zoo.load("eg_step_size")))).iter(f"{SVG}g"):
        label = group.find(f"{SVG}text")
        if label.text == "clamp":
            box_left = float(group.find(f"{SVG}rect").get("x"))
            label_left = float(label.get("x")) - label_character_width * len("clamp") / 2
            assert label_left - box_left >= operand_character_width * len("high") + gap


@settings(max_examples=60)
@given(programs(max_statements=40))
def test_pictures_have_no_overlapping_boxes_and_no_arrows_through_boxes(program):
    assert_readable(to_graph(program))


@pytest.mark.parametrize("name", zoo.names())
def test_pictures_of_the_zoo_are_readable(name):
    assert_readable(to_graph(zoo.load(name)))


@pytest.mark.parametrize(
    ("name", "max_crossings"), [("sgd", 0), ("lion", 3), ("adamw", 3), ("adafactor", 3)]
)
def test_few_arrows_cross(name, max_crossings):
    _, layers = arrange(to_graph(zoo.load(name)))
    assert crossings(layers) <= max_crossings


def test_the_boxes_of_operands_are_placed_in_the_order_of_the_operands():
    _, layers = arrange(to_graph(parse("def train(w, g):\n  u = g / w\n  return u")))
    assert layers.above[box("statement 1")] == [box("input g"), box("input w")]


def test_dot_quotes_special_characters_in_names():
    graph = to_graph(zoo.load("adafactor"))
    graph.nodes["input g"]["label"] = 'a"b\\c\nd'
    dot = to_dot(graph)
    assert r'label="a\"b\\c\nd"' in dot
    assert dot.count("style=dashed") == 2
    quoted = r'"(?:[^"\\]|\\.)*"'
    value = rf"(?:{quoted}|\w+)"
    attributes = rf"\[\w+={value}(?:, \w+={value})*\]"
    for line in dot.splitlines()[3:-1]:
        assert re.fullmatch(rf"    {quoted}(?: -> {quoted})?(?: {attributes})?;", line), line


def test_svg_escapes_markup_in_names():
    graph = to_graph(zoo.load("sgd"))
    graph.nodes["input g"]["label"] = '<g> & "g"'
    texts = [element.text for element in ET.fromstring(to_svg(graph)).iter(f"{SVG}text")]
    assert '<g> & "g"' in texts


def test_svg_pictures_need_no_other_file():
    svg = to_svg(to_graph(zoo.load("lion")))
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert _STYLE in svg
