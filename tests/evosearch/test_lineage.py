"""Where programs come from: chains with drift folded, and the champions' tree."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import pytest

from evosearch.pipeline.pipeline import search
from evosearch.report.family import rows, to_svg, to_text
from evosearch.runs.lineage import Ancestor, family, lineage
from evosearch.runs.run import Run
from primitives import analyse
from tests.evosearch.test_search import small


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "found"
    return search(small(programs=60), directory)


def test_a_lineage_leads_from_the_seed_program_with_drift_folded(found: Run) -> None:
    longest = max((lineage(found, n) for n in range(found.status().generated)), key=len)
    assert longest[0].id == 0
    assert longest[0].mutation == "initial"
    assert len(longest) > 2
    for before, after in pairwise(longest):
        assert before.key != after.key
        assert before.last < after.id
        assert found.row(after.id).parent == before.last


def test_folded_programs_all_have_the_key(found: Run) -> None:
    number: int | None = found.status().generated - 1
    counted = 0
    while number is not None:
        row = found.row(number)
        counted += 1
        number = row.parent
    ancestors = lineage(found, found.status().generated - 1)
    assert sum(1 + one.neutral for one in ancestors) == counted
    for one in ancestors:
        for own in (one.id, one.last):
            assert analyse(found.program(own)).key == one.key


def test_the_fitness_of_an_ancestor_is_that_of_top(found: Run) -> None:
    best = found.top(1)[0]
    last = lineage(found, best.id)[-1]
    assert (last.fitness, last.low) == best.fitness[:2]
    assert last.seeds == best.seeds


def ancestor(number: int) -> Ancestor:
    return Ancestor(number, number, f"edit {number}", number % 3, f"{number}", 5, 0.1, 0, 0.2, 4)


def tree() -> Any:
    """0 - 1 - 4 - 7 are the last champion's line; 2 - 3 and 5 branch off."""
    made = nx.DiGraph([(0, 1), (1, 4), (4, 7), (0, 2), (2, 3), (1, 5)])
    champions = {0: 0, 3: 1, 5: 2, 7: 3}
    for node in made:
        made.nodes[node].update(ancestor=ancestor(node), champion=champions.get(node))
    return made


def test_a_family_is_drawn_in_lanes() -> None:
    assert to_text(rows(tree())) == [
        "●      #0  +0.100  edit 0  champion 0",
        "├───╮",
        "○   │  #1  +0.100  edit 1  (+ 1 neutral)",
        "├─╮ │",
        "│ │ ○  #2  +0.100  edit 2  (+ 2 neutral)",
        "│ │ ●  #3  +0.100  edit 3  champion 1",
        "○ │    #4  +0.100  edit 4  (+ 1 neutral)",
        "│ ●    #5  +0.100  edit 5  (+ 2 neutral)  champion 2",
        "●      #7  +0.100  edit 7  (+ 1 neutral)  champion 3",
    ]


def test_a_family_is_drawn_as_a_picture_that_parses() -> None:
    root = ElementTree.fromstring(to_svg(rows(tree())))
    space = {"s": "http://www.w3.org/2000/svg"}
    assert len(root.findall(".//s:circle", space)) == 7
    assert len(root.findall(".//s:path", space)) == 6
    assert len(root.findall(".//s:g[@class='champion']", space)) == 4


def test_a_family_has_every_champion_and_no_program_twice(found: Run) -> None:
    whole = family(found)
    champions = [n for _, n in whole.nodes(data="champion") if n is not None]
    assert sorted(champions) == [one.number for one in found.champions()]
    assert nx.is_forest(whole.to_undirected())


def test_the_commands_show_lineage(run: Any, found: Run, tmp_path: Path) -> None:
    said = run("lineage", found.directory)
    assert said.status == 0
    assert "● " in said.out
    document = json.loads(run("lineage", found.directory, "--json").out)
    assert document["ancestors"][0]["id"] == 0
    path = tmp_path / "family.svg"
    assert run("lineage", found.directory, "-o", path).status == 0
    assert path.read_text().startswith("<svg")
    assert run("lineage", found.directory, "-o", tmp_path / "family.png").status == 2
    shown = json.loads(run("show", found.directory, "--json").out)
    assert shown["lineage"][0]["mutation"] == "initial"
    assert "lineage:" in run("show", found.directory).out
