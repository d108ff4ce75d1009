"""Tests of lineages, in which neutral mutations are counted, and of the champions' family tree."""

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
    """The run of a search of 60 programs."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    return search(small_config(programs=60), directory)


def test_a_lineage_starts_at_the_initial_program_and_skips_neutral_mutations(
    searched_run: Run,
) -> None:
    lineages = [lineage(searched_run, id) for id in range(searched_run.status().generated)]
    longest = max(lineages, key=len)
    assert longest[0].id == 0
    assert longest[0].mutation == "initial"
    assert len(longest) > 2
    for ancestor, next_ancestor in pairwise(longest):
        assert ancestor.key != next_ancestor.key
        assert ancestor.last < next_ancestor.id
        assert searched_run.row(next_ancestor.id).parent == ancestor.last


def test_an_ancestor_counts_the_neutral_mutations_which_keep_its_semantic_key(
    searched_run: Run,
) -> None:
    last_id = searched_run.status().generated - 1
    program_count = 0
    program_id: int | None = last_id
    while program_id is not None:
        program_count += 1
        program_id = searched_run.row(program_id).parent
    ancestors = lineage(searched_run, last_id)
    assert sum(1 + ancestor.neutral for ancestor in ancestors) == program_count
    for ancestor in ancestors:
        assert analyse(searched_run.program(ancestor.id)).key == ancestor.key
        assert analyse(searched_run.program(ancestor.last)).key == ancestor.key


def test_a_lineage_and_the_ranking_have_the_same_fitness_of_a_program(searched_run: Run) -> None:
    best = searched_run.top(1)[0]
    last = lineage(searched_run, best.id)[-1]
    assert last.fitness == best.fitness.mean
    assert last.low == best.fitness.low
    assert last.seeds == best.seeds


def make_ancestor(number: int) -> Ancestor:
    """Return an ancestor with fitness 0.1 and up to two neutral mutations."""
    return Ancestor(number, number, f"edit {number}", number % 3, f"{number}", 5, 0.1, 0, 0.2, 4)


def example_tree() -> Any:
    """Return a tree in which 0 - 1 - 4 - 7 leads to the last champion; 2 - 3 and 5 branch off."""
    tree = nx.DiGraph([(0, 1), (1, 4), (4, 7), (0, 2), (2, 3), (1, 5)])
    champion_numbers = {0: 0, 3: 1, 5: 2, 7: 3}
    for node in tree:
        champion = champion_numbers.get(node)
        tree.nodes[node].update(ancestor=make_ancestor(node), champion=champion)
    return tree


def test_a_family_tree_is_drawn_as_text() -> None:
    assert to_text(rows(example_tree())) == [
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
    tree = example_tree()
    root = ElementTree.fromstring(to_svg(rows(tree)))
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    assert len(root.findall(".//svg:circle", namespace)) == len(tree.nodes)
    assert len(root.findall(".//svg:path", namespace)) == len(tree.edges)
    assert len(root.findall(".//svg:g[@class='champion']", namespace)) == 4


def test_a_family_tree_has_every_champion_once(searched_run: Run) -> None:
    tree = family(searched_run)
    numbers = [number for _, number in tree.nodes(data="champion") if number is not None]
    assert sorted(numbers) == [champion.number for champion in searched_run.champions()]
    assert nx.is_forest(tree.to_undirected())


def test_the_command_lineage_prints_and_draws_the_family_tree(
    run: Any, searched_run: Run, tmp_path: Path
) -> None:
    result = run("lineage", searched_run.directory)
    assert result.status == 0
    assert "● " in result.out
    document = json.loads(run("lineage", searched_run.directory, "--json").out)
    assert document["ancestors"][0]["id"] == 0
    path = tmp_path / "family.svg"
    assert run("lineage", searched_run.directory, "-o", path).status == 0
    assert path.read_text().startswith("<svg")
    assert run("lineage", searched_run.directory, "-o", tmp_path / "family.png").status == 2


def test_the_command_show_prints_the_lineage_of_a_program(run: Any, searched_run: Run) -> None:
    document = json.loads(run("show", searched_run.directory, "--json").out)
    assert document["lineage"][0]["mutation"] == "initial"
    assert "lineage:" in run("show", searched_run.directory).out
