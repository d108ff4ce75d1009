"""Tests that the pages on results show the programs in docs/winners and docs/appendix/winners."""

from pathlib import Path
from textwrap import indent

import pytest

from primitives import live, parse, simplify

DOCS = Path(__file__).parent.parent / "docs"
APPENDIX = DOCS / "appendix"
PAGES = "".join(
    page.read_text(encoding="utf-8")
    for page in (DOCS / "results.md", *sorted(APPENDIX.glob("*.md")))
)
WINNERS = sorted([*(DOCS / "winners").glob("*.txt"), *(APPENDIX / "winners").glob("*.txt")])


@pytest.mark.parametrize("path", WINNERS, ids=lambda path: path.stem)
def test_a_page_shows_each_winner_and_no_winner_has_dead_statements(path: Path) -> None:
    text = path.read_text(encoding="utf-8").strip()
    assert indent(text, "    ") in PAGES
    program = parse(text)
    assert live(program) == program


def test_the_folders_have_the_simplified_form_of_every_winner() -> None:
    names = {path.stem for path in WINNERS}
    found_by_search = {name for name in names if not name.endswith("-simplified")}
    assert names == found_by_search | {f"{name}-simplified" for name in found_by_search}
    assert found_by_search


def test_algebra_alone_simplifies_an_earlier_winner_to_orthogonalized_momentum() -> None:
    winner = parse((APPENDIX / "winners" / "earlier-2.txt").read_text(encoding="utf-8"))
    ops = [statement.op for statement in simplify(winner).program.statements]
    assert ops == ["ema", "orthogonalize", "multiply", "add", "multiply", "multiply"]
