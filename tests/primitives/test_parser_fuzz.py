"""Fuzz tests of the parser with hostile texts.

For each text, the parser either raises an error of one line, or returns a program that equals the
program parsed from its printed text. An audit hook checks that the parser executes, imports and
opens nothing.
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
    "\uff53ign",  # full-width s, then "ign"
    "\ufb01nd",  # a ligature
    "\xaa",
    "\xb5",
    "\u210b",
    "e\u0301",
    "\u212b",
    "\u0455qrt",  # Cyrillic s, which normalization keeps and names may contain
    "\u03b2",
    "\uff11",
    "\u2460",
    "\u0660",
    "\xb2",
    "a\u0387",
    "\u2118",
    "\U000e0100",
)
"""Letters and digits that look like others or that Unicode normalization replaces by others."""

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
TOKENS = (
    *keyword.kwlist, *keyword.softkwlist, *OPS, *ALIASES, *NUMBERS, *HOMOGLYPHS, *CONTROLS,
    "w", "g", "m", "v", "lr", "t", "v1", "update", "train", "__import__", "eval", "exec", "open",
    "__debug__", "print", "os", "def train(w, g):", "return g", "import os", "lambda: 0", "...",
    "+", "-", "*", "/", "**", "//", "%", "@", "<<", ">", "<=", "==", "!=", "~", ":=", "->", "!",
    "(", ")", "[", "]", "{", "}", ",", ":", ";", ".", "=", "#", "'", '"', "'''", 'f"{', "b'", "\\d",
    " ", "  ", "    ", "row", "scalar", "tensor(1.0)", ": row", "$", "?", "`",
)  # fmt: skip
ZOO_TEXTS = [zoo.text(name) for name in zoo.names()] + [str(zoo.load(name)) for name in zoo.names()]

CONSTANTS = NUMBERS[:9]  # the last two are out of range
MAX_MESSAGE_LENGTH = 400
TextGenerator = Callable[[random.Random], str]


def mutate_program(rng: random.Random) -> str:
    """Return a zoo program with a few random deletions, repetitions and insertions."""
    text = rng.choice(ZOO_TEXTS)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randrange(6))
        token = rng.choice((rng.choice(TOKENS), "", text[start:end] * 2))
        text = text[:start] + token + text[end:]
    return text


def replace_word_in_program(rng: random.Random) -> str:
    """Return a zoo program with one word replaced everywhere."""
    text = rng.choice(ZOO_TEXTS)
    words = sorted(set(text.replace("(", " ").replace(",", " ").split()))
    return text.replace(rng.choice(words), rng.choice(TOKENS))


def random_tokens(rng: random.Random) -> str:
    """Return random tokens, with probability 1/2 inside a function."""
    body = rng.choice(("", " ")).join(rng.choices(TOKENS, k=rng.randint(1, 12)))
    return rng.choice((body, f"def train(w, g, m):\n  x = {body}\n  return g, m"))


def random_statements(rng: random.Random) -> str:
    """Return a program of well-formed statements, some with unusual names or numbers."""
    names = ["w", "g", "m", "lr", rng.choice((*HOMOGLYPHS, *keyword.softkwlist, "x", "v2"))]
    lines = []
    for _ in range(rng.randint(1, 6)):
        op = rng.choice(list(OPS.values()))
        args = [
            rng.choice(names if operand_type == "x" else CONSTANTS) for operand_type in op.operands
        ]
        lines.append(f"{rng.choice(names[2:])} = {op.name}({', '.join(args)})")
    body = rng.choice(("\n  ", "\r\n  ", "\r  ")).join(lines)
    return f"def train(w, g, m, lr):\n  {body}\n  return g, m"


def unicode_noise(rng: random.Random) -> str:
    """Return random code points, in a name, in a comment, or as the whole text."""
    noise = "".join(chr(rng.randrange(rng.choice((0x250, 0x3000, 0x110000)))) for _ in range(4))
    template = rng.choice(
        ("def f(w, g):\n  x{0} = g\n  return x{0}", "def f(w, g):\n  return g # {0}", "{0}")
    )
    return template.format(noise)


def nested_or_long_expression(rng: random.Random) -> str:
    """Return an assignment of a deeply nested expression, or of a long sum, name or number."""
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
    expression = opening * count + inside + closing * rng.choice((count, count, 0))
    return f"def train(w, g):\n  x = {expression}\n  return g"


GENERATORS: dict[TextGenerator, int] = {
    mutate_program: 30,
    replace_word_in_program: 10,
    random_tokens: 30,
    random_statements: 12,
    unicode_noise: 15,
    nested_or_long_expression: 3,
}
"""The generators of texts, each with its share of the texts in percent."""


def random_texts(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    for generator in rng.choices(list(GENERATORS), list(GENERATORS.values()), k=count):
        yield generator(rng)


class AuditLog:
    """Records audit events of Python: execution, imports, and access to files.

    Attributes:
        is_active: whether events are being recorded.
        events: the recorded events as text, at most 200 characters each.
    """

    IGNORED = ("compile", "object.__getattr__", "sys._getframe", "gc.")
    """Beginnings of the names of events that `ast.parse` itself or the test runner causes."""

    def __init__(self) -> None:
        self.is_active = False
        self.events: list[str] = []
        sys.addaudithook(self._record)

    def _record(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.is_active or event.startswith(self.IGNORED):
            return
        if event == "open" and arguments[0] == "":
            return  # after a syntax error, Python tries to open the file "", which does not exist
        self.events.append(f"{event}{arguments!r}"[:200])

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.is_active = True
        try:
            yield
        finally:
            self.is_active = False


@pytest.fixture(scope="module")
def audit_log() -> AuditLog:
    return AuditLog()


def assert_round_trip_or_refusal(text: str, audit_log: AuditLog) -> Program | None:
    """Return the program that `text` defines, or None if the parser refuses `text`.

    The error message must be one short line. A program must equal the program parsed from its
    printed text.
    """
    with audit_log.recording():
        try:
            program = parse(text)
        except ProgramError as error:
            message = str(error)
            program = None
    if program is None:
        assert len(message.splitlines()) == 1
        assert len(message) < MAX_MESSAGE_LENGTH
        return None
    printed = str(program)
    program_of_printed = parse(printed)
    assert program_of_printed == program
    assert str(program_of_printed) == printed
    return program


def assert_round_trips_or_refusals(seed: int, count: int, audit_log: AuditLog) -> int:
    """Check `count` random texts and return how many of them are valid programs."""
    audit_log.events.clear()
    valid_count = 0
    for text in random_texts(seed, count):
        try:
            valid_count += assert_round_trip_or_refusal(text, audit_log) is not None
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}\n{text!r}")
        assert not audit_log.events, f"{audit_log.events}\n{text!r}"
    return valid_count


@pytest.mark.filterwarnings("error")
def test_hostile_texts_are_refused_or_round_trip_and_execute_nothing(audit_log: AuditLog) -> None:
    count = 20_000
    valid_count = assert_round_trips_or_refusals(0, count, audit_log)
    assert 0.05 * count < valid_count < 0.5 * count  # many texts are valid, and many are not


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(1, 51))
def test_a_million_hostile_texts_are_refused_or_round_trip(seed: int, audit_log: AuditLog) -> None:
    assert_round_trips_or_refusals(seed, 20_000, audit_log)


def test_the_audit_log_records_execution_imports_and_opened_files(
    audit_log: AuditLog, tmp_path: object
) -> None:
    audit_log.events.clear()
    with audit_log.recording():
        exec("import this")
        open(f"{tmp_path}/file", "w").close()
    names = {event.partition("(")[0] for event in audit_log.events}
    assert {"exec", "import", "open"} <= names


@pytest.mark.parametrize("text", ["x = '\\d'", "x = 1and 2", "x = 0xfor g", "x = = g", "import os"])
def test_syntax_that_python_warns_about_is_refused_without_a_warning(
    text: str, audit_log: AuditLog, capsys: pytest.CaptureFixture[str]
) -> None:
    audit_log.events.clear()
    program_text = f"def train(w, g):\n  {text}\n  return g"
    assert assert_round_trip_or_refusal(program_text, audit_log) is None
    assert audit_log.events == []
    assert capsys.readouterr() == ("", "")


def test_texts_of_maximum_length_are_refused_or_round_trip(audit_log: AuditLog) -> None:
    """The parser refuses longer texts before reading them, so it always returns quickly."""
    for repeated in (
        "(",
        "a.",
        "-",
        "x ",
        "#\u03b2",
        "\u03b2",
        "'",
        "\n",
        "\r",
        "1if ",
        "f(",
        "{1:",
    ):
        text = repeated * (MAX_CHARACTERS // len(repeated))
        assert assert_round_trip_or_refusal(text, audit_log) is None
    with_long_comment = "def f(w, g):\n return g #" + "\u03b2" * 99_000
    assert assert_round_trip_or_refusal(with_long_comment, audit_log) is not None
    with pytest.raises(ProgramError, match="at most 100,000"):
        parse("\u03b2" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize("name", [*keyword.softkwlist, "__debug__", "print", "\u03b2", "\u0455"])
def test_soft_keywords_builtin_names_and_letters_without_a_lookalike_form_are_valid_names(
    name: str, audit_log: AuditLog
) -> None:
    text = f"def train(w, g, {name}):\n    {name} = {name} * g\n    return {name}, {name}\n"
    program = assert_round_trip_or_refusal(text, audit_log)
    assert program is not None
    assert str(program) == text


@pytest.mark.parametrize(
    "name",
    [*keyword.kwlist, *HOMOGLYPHS[:9], "x\ufe0f", "x\u200d", "", "1x", "a b", "x\n", "a=b", "sign",
     "max", "x" * (MAX_NAME + 1)],
)  # fmt: skip
def test_programs_with_names_that_the_parser_refuses_cannot_be_constructed(name: str) -> None:
    lion = zoo.load("lion")
    statement = Statement(name, "sign", ("g",))
    with pytest.raises(ProgramError):
        Program(lion.parameters, (statement, *lion.statements), lion.returns)
    parameter = lion.parameters[2]._replace(name=name)
    with pytest.raises(ProgramError):
        Program((*lion.parameters[:2], parameter), lion.statements, lion.returns)
