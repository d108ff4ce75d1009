"""Lineages of programs with neutral mutations folded, and the champions' family tree."""

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
from tests.evosearch.test_search import small_config


@pytest.fixture(scope="module")
def searched_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("runs") / "found"
    return search(small_config(programs=60), directory)


def test_a_lineage_starts_at_the_initial_program_and_folds_neutral_mutations(
    searched_run: Run,
) -> None:
    longest = max(
        (lineage(searched_run, n) for n in range(searched_run.status().generated)), key=len
    )
    assert longest[0].id == 0
    assert longest[0].mutation == "initial"
    assert len(longest) > 2
    for before, after in pairwise(longest):
        assert before.key != after.key
        assert before.last < after.id
        assert searched_run.row(after.id).parent == before.last


def test_folded_programs_have_the_ancestors_key(searched_run: Run) -> None:
    number: int | None = searched_run.status().generated - 1
    program_count = 0
    while number is not None:
        row = searched_run.row(number)
        program_count += 1
        number = row.parent
    ancestors = lineage(searched_run, searched_run.status().generated - 1)
    assert sum(1 + ancestor.neutral for ancestor in ancestors) == program_count
    for ancestor in ancestors:
        for folded in (ancestor.id, ancestor.last):
            assert analyse(searched_run.program(folded)).key == ancestor.key


def test_the_fitness_of_an_ancestor_equals_that_in_top(searched_run: Run) -> None:
    best = searched_run.top(1)[0]
    last = lineage(searched_run, best.id)[-1]
    assert (last.fitness, last.low) == best.fitness[:2]
    assert last.seeds == best.seeds


def make_ancestor(number: int) -> Ancestor:
    return Ancestor(number, number, f"edit {number}", number % 3, f"{number}", 5, 0.1, 0, 0.2, 4)


def tree() -> Any:
    """Return a tree: 0 - 1 - 4 - 7 leads to the last champion; 2 - 3 and 5 branch off."""
    graph = nx.DiGraph([(0, 1), (1, 4), (4, 7), (0, 2), (2, 3), (1, 5)])
    champions = {0: 0, 3: 1, 5: 2, 7: 3}
    for node in graph:
        graph.nodes[node].update(ancestor=make_ancestor(node), champion=champions.get(node))
    return graph


def test_a_family_tree_is_drawn_as_text() -> None:
    assert to_text(rows(tree())) == [
        "●      #0  +0.100  edit 0  champion 0",
        "├───╮",
        "○   │  #1  +0.100  edit 1  (+ 1 neutral mutation)",
        "├─╮ │",
        "│ │ ○  #2  +0.100  edit 2  (+ 2 neutral mutations)",
        "│ │ ●  #3  +0.100  edit 3  champion 1",
        "○ │    #4  +0.100  edit 4  (+ 1 neutral mutation)",
        "│ ●    #5  +0.100  edit 5  (+ 2 neutral mutations)  champion 2",
        "●      #7  +0.100  edit 7  (+ 1 neutral mutation)  champion 3",
    ]


def test_a_family_tree_is_drawn_as_valid_svg() -> None:
    root = ElementTree.fromstring(to_svg(rows(tree())))
    space = {"s": "http://www.w3.org/2000/svg"}
    assert len(root.findall(".//s:circle", space)) == 7
    assert len(root.findall(".//s:path", space)) == 6
    assert len(root.findall(".//s:g[@class='champion']", space)) == 4


def test_a_family_tree_has_every_champion_once(searched_run: Run) -> None:
    tree_of_run = family(searched_run)
    champions = [n for _, n in tree_of_run.nodes(data="champion") if n is not None]
    assert sorted(champions) == [champion.number for champion in searched_run.champions()]
    assert nx.is_forest(tree_of_run.to_undirected())


def test_commands_show_the_lineage(run: Any, searched_run: Run, tmp_path: Path) -> None:
    result = run("lineage", searched_run.directory)
    assert result.status == 0
    assert "● " in result.out
    document = json.loads(run("lineage", searched_run.directory, "--json").out)
    assert document["ancestors"][0]["id"] == 0
    path = tmp_path / "family.svg"
    assert run("lineage", searched_run.directory, "-o", path).status == 0
    assert path.read_text().startswith("<svg")
    assert run("lineage", searched_run.directory, "-o", tmp_path / "family.png").status == 2
    shown = json.loads(run("show", searched_run.directory, "--json").out)
    assert shown["lineage"][0]["mutation"] == "initial"
    assert "lineage:" in run("show", searched_run.directory).out
