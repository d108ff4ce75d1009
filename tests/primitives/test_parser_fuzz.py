"""Hostile texts by the thousand: each is refused in one line or is a program that reads back.

Nothing of a text is executed, imported or opened: an audit hook watches while it is read.
"""

from __future__ import annotations

import keyword
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from primitives import OPS, Program, ProgramError, Statement, parse, zoo
from primitives.ops import ALIASES
from primitives.parsing import MAX_CHARACTERS
from primitives.program import MAX_NAME

HOMOGLYPHS = (
    "\U0001d422\U0001d41f",  # mathematical bold "if"
    "\U0001d568\U0001d55a\U0001d565\U0001d559",  # double-struck "with"
    "\uff53ign",  # full-width s
    "\ufb01nd",  # a ligature
    "\xaa",
    "\xb5",
    "\u210b",
    "e\u0301",
    "\u212b",
    "\u0455qrt",  # Cyrillic s: another letter, stable, and allowed in names
    "\u03b2",
    "\uff11",
    "\u2460",
    "\u0660",
    "\xb2",
    "a\u0387",
    "\u2118",
    "\U000e0100",
)
CONTROLS = (
    "\u202e", "\u202d", "\u2066", "\u2069", "\u200f", "\u061c",  # bidirectional
    "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\xad", "\ufe0f", "\u034f", "\u115f",
    "\ud800", "\udfff", "\0", "\x01", "\x1a", "\x1b[2J", "\x7f", "\x85", "\xa0", "\u2028", "\u3000",
    "\r", "\r\n", "\n", "\f", "\v", "\t", "\\\n", "\\",
)  # fmt: skip
NUMBERS = (
    "0", "1", "-1", "-0.0", "0.9", "1e-8", "1e38", "3.5e38", "1e400", "-1e-400", "9" * 40,
    "9" * 5000, "0x" + "f" * 40, "0b1", "0o7", "07", "1_0", "1__0", "1.", ".5", "1e", "1j", "1if",
    "0xfor", "1.5and", "1e999999999", "0." + "0" * 400 + "1",
)  # fmt: skip
PIECES = (
    *keyword.kwlist, *keyword.softkwlist, *OPS, *ALIASES, *NUMBERS, *HOMOGLYPHS, *CONTROLS,
    "w", "g", "m", "v", "lr", "t", "v1", "update", "train", "__import__", "eval", "exec", "open",
    "__debug__", "print", "os", "def train(w, g):", "return g", "import os", "lambda: 0", "...",
    "+", "-", "*", "/", "**", "//", "%", "@", "<<", ">", "<=", "==", "!=", "~", ":=", "->", "!",
    "(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "=", "#", "'", '"', "'''", 'f"{', "b'", "\\d",
    " ", "  ", "    ", "row", "scalar", "tensor(1.0)", ": row", "$", "?", "`",
)  # fmt: skip
TEXTS = [zoo.text(name) for name in zoo.names()] + [str(zoo.load(name)) for name in zoo.names()]

Source = Callable[[random.Random], str]


def mutated(rng: random.Random) -> str:
    """A program of the zoo with a few places cut, doubled, swapped or filled with a piece."""
    text = rng.choice(TEXTS)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text) + 1)
        end = min(len(text), place + rng.randrange(6))
        piece = rng.choice((rng.choice(PIECES), "", text[place:end] * 2))
        text = text[:place] + piece + text[end:]
    return text


def renamed(rng: random.Random) -> str:
    """A program of the zoo, one of whose words is another everywhere."""
    text = rng.choice(TEXTS)
    words = sorted(set(text.replace("(", " ").replace(",", " ").split()))
    return text.replace(rng.choice(words), rng.choice(PIECES))


def random_tokens(rng: random.Random) -> str:
    """Pieces in any order, mostly inside a function."""
    body = rng.choice(("", " ")).join(rng.choices(PIECES, k=rng.randint(1, 12)))
    return rng.choice((body, f"def train(w, g, m):\n  x = {body}\n  return g, m"))


def statements(rng: random.Random) -> str:
    """Well-formed statements, with an odd name or number here and there."""
    names = ["w", "g", "m", "lr", rng.choice((*HOMOGLYPHS, *keyword.softkwlist, "x", "v2"))]
    lines = []
    for _ in range(rng.randint(1, 6)):
        op = rng.choice(list(OPS.values()))
        args = [rng.choice(names if want == "x" else NUMBERS[:9]) for want in op.operands]
        lines.append(f"{rng.choice(names[2:])} = {op.name}({', '.join(args)})")
    body = rng.choice(("\n  ", "\r\n  ", "\r  ")).join(lines)
    return f"def train(w, g, m, lr):\n  {body}\n  return g, m"


def unicode_noise(rng: random.Random) -> str:
    """Any code points, in a name, a comment or anywhere."""
    noise = "".join(chr(rng.randrange(rng.choice((0x250, 0x3000, 0x110000)))) for _ in range(4))
    template = rng.choice(
        ("def f(w, g):\n  x{0} = g\n  return x{0}", "def f(w, g):\n  return g # {0}", "{0}")
    )
    return template.format(noise)


def large(rng: random.Random) -> str:
    """Deep nesting, long lines, long names and long numbers, closed or not."""
    count = rng.choice((3, 40, 64, 65, 90, 99, 101, 150, 300))
    opening, inside, closing = rng.choice(
        (
            ("(", "g", ")"), ("sign(", "g", ")"), ("-", "g", ""), ("not ", "g", ""),
            ("[", "g", "]"), ("{", "g", "}"), ("{1:", "g", "}"), ("g[", "0", "]"),
            ("lambda: ", "g", ""), ("", "g", ".a"), ("", "g", " + g"), ("g ** ", "g", ""),
            ("await ", "g", ""), ("(x for x in ", "g", ")"), ("f'{", "g", "}'"), ("", "9", "9"),
            ("", "x", "x"), ("(g, ", "g", ")"), ("g if g else ", "g", ""), ("*", "g", ""),
        )
    )  # fmt: skip
    whole = opening * count + inside + closing * rng.choice((count, count, 0))
    return f"def train(w, g):\n  x = {whole}\n  return g"


SOURCES: dict[Source, int] = {
    mutated: 30,
    renamed: 10,
    random_tokens: 30,
    statements: 12,
    unicode_noise: 15,
    large: 3,
}
"""How often of 100 texts each is drawn."""


def texts(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    for source in rng.choices(list(SOURCES), list(SOURCES.values()), k=count):
        yield source(rng)


class Watch:
    """Notes the events of the interpreter by which something could run or a file be touched."""

    QUIET = ("compile", "object.__getattr__", "sys._getframe", "gc.")

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on or event.startswith(self.QUIET):
            return
        if event == "open" and arguments[0] == "":
            return  # Python looks for the line of a syntax error in the file "", which is none
        self.seen.append(f"{event}{arguments!r}"[:200])

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.on = True
        try:
            yield
        finally:
            self.on = False


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def parsed(text: str) -> tuple[Program | None, str]:
    """The program, or the refusal."""
    try:
        return parse(text), ""
    except ProgramError as refusal:
        return None, str(refusal)


def read_or_refused(text: str, watch: Watch) -> Program | None:
    """The program, if the text is one.

    The law: a refusal in one line, or a program that reads back as itself from a text that prints
    as itself.
    """
    with watch.watching():
        program, refusal = parsed(text)
    if program is None:
        assert len(refusal.splitlines()) == 1
        assert len(refusal) < 400
        return None
    printed = str(program)
    again = parse(printed)
    assert again == program
    assert str(again) == printed
    return program


def assert_the_law_holds(seed: int, count: int, watch: Watch) -> int:
    """And of the texts so many are programs."""
    watch.seen.clear()
    read = 0
    for text in texts(seed, count):
        try:
            read += read_or_refused(text, watch) is not None
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{text!r}")
        assert not watch.seen, f"{watch.seen}\n{text!r}"
    return read


@pytest.mark.filterwarnings("error")
def test_any_of_many_hostile_texts_is_refused_or_reads_back_and_nothing_runs(watch: Watch) -> None:
    count = 20_000
    read = assert_the_law_holds(0, count, watch)
    assert count // 20 < read < count // 2  # both branches of the law are tried


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(1, 51))
def test_a_million_hostile_texts_are_refused_or_read_back(seed: int, watch: Watch) -> None:
    assert_the_law_holds(seed, 20_000, watch)


def test_the_watch_sees_what_runs_and_what_is_opened(watch: Watch, tmp_path: object) -> None:
    watch.seen.clear()
    with watch.watching():
        exec("import this")
        open(f"{tmp_path}/file", "w").close()
    events = {one.partition("(")[0] for one in watch.seen}
    assert {"exec", "import", "open"} <= events


@pytest.mark.parametrize("text", ["x = '\\d'", "x = 1and 2", "x = 0xfor g", "x = = g", "import os"])
def test_what_python_warns_of_is_refused_without_a_warning_and_without_a_file(
    text: str, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch.seen.clear()
    assert read_or_refused(f"def train(w, g):\n  {text}\n  return g", watch) is None
    assert watch.seen == []
    assert capsys.readouterr() == ("", "")


def test_the_longest_texts_are_refused_or_read_like_any_other(watch: Watch) -> None:
    """Longer ones are refused unread, so that no text takes long."""
    for piece in ("(", "a.", "-", "x ", "#\u03b2", "\u03b2", "'", "\n", "\r", "1if ", "f(", "{1:"):
        text = piece * (MAX_CHARACTERS // len(piece))
        assert read_or_refused(text, watch) is None
    assert read_or_refused("def f(w, g):\n return g #" + "\u03b2" * 99_000, watch) is not None
    with pytest.raises(ProgramError, match="at most 100,000"):
        parse("\u03b2" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("name", [*keyword.softkwlist, "__debug__", "print", "\u03b2", "\u0455"])
def test_names_that_are_no_keywords_and_read_as_they_are_written_are_names(
    name: str, watch: Watch
) -> None:
    text = f"def train(w, g, {name}):\n    {name} = {name} * g\n    return {name}, {name}\n"
    program = read_or_refused(text, watch)
    assert program is not None
    assert str(program) == text


@pytest.mark.parametrize(
    "name",
    [*keyword.kwlist, *HOMOGLYPHS[:9], "x\ufe0f", "x\u200d", "", "1x", "a b", "x\n", "a=b", "sign",
     "max", "x" * (MAX_NAME + 1)],
)  # fmt: skip
def test_no_program_can_be_made_with_a_name_that_would_not_read_back(name: str) -> None:
    program = zoo.load("lion")
    statement = Statement(name, "sign", ("g",))
    with pytest.raises(ProgramError):
        Program(program.parameters, (statement, *program.statements), program.returns)
    with pytest.raises(ProgramError):
        Program(
            (*program.parameters[:2], program.parameters[2]._replace(name=name)),
            program.statements,
            program.returns,
        )
