"""What the pages on results say of the programs in docs/winners."""

from pathlib import Path
from textwrap import indent

import pytest

from primitives import live, parse, simplify

DOCS = Path(__file__).parent.parent / "docs"
PAGES = "".join(page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*results*.md")))
WINNERS = sorted((DOCS / "winners").glob("*.txt"))


@pytest.mark.parametrize("path", WINNERS, ids=lambda path: path.stem)
def test_a_winner_is_shown_as_it_lies_there_without_dead_statements(path: Path) -> None:
    text = path.read_text(encoding="utf-8").strip()
    assert indent(text, "    ") in PAGES
    program = parse(text)
    assert live(program) == program


def test_every_winner_has_its_simplified_form() -> None:
    names = {path.stem for path in WINNERS}
    raw = {name for name in names if not name.endswith("-simplified")}
    assert names == raw | {f"{name}-simplified" for name in raw}
    assert raw


def test_an_earlier_winner_becomes_orthogonalized_momentum_by_algebra_alone() -> None:
    raw = parse((DOCS / "winners" / "earlier-2.txt").read_text(encoding="utf-8"))
    ops = [statement.op for statement in simplify(raw).program.statements]
    assert ops == ["ema", "orthogonalize", "multiply", "add", "multiply", "multiply"]
