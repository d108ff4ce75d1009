"""The live view, as goldens: 80 and 120 columns, no colour, piped to a file."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from evosearch.config import MeasurementConfig
from evosearch.searching.evolution import Counts
from evosearch.searching.live import LiveView, duration, fraction_done, seconds_left
from evosearch.searching.observers import Snapshot
from evosearch.searching.records import Champion, Record
from evosearch.training.seeds import Seed, Stream
from primitives import semantic_key, zoo


def snapshot() -> Snapshot:
    program = zoo.load("lion")
    record = Record(4711, program, semantic_key(program))
    for number in range(16):
        seed = Seed(Stream.CONFIRM, number)
        record.add(seed, {"digits-mlp": 0.10 + 0.01 * (number % 2), "topics-attention": 0.15})
    return Snapshot(
        counts=Counts(8213, 1200, 7214, 999, 7000, 100_000, 39_000),
        champion=Champion(record),
        tests=14,
        trainings=3000,
        programs=20_000,
        trainings_limit=None,
        minutes=4.5,
        elapsed_seconds=70.0,
        searching_seconds=60.0,
        replayed=0,
        replayed_trainings=0,
        validated=(),
    )


def drawn(width: int, seen: Snapshot | None) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    view = LiveView(console, "runs/quick", MeasurementConfig())
    view.phase("compiling digits-mlp (1 of 4)")
    if seen is not None:
        view.update(seen)
    recorder = Console(width=width, file=io.StringIO(), color_system=None)
    recorder.print(view.render())
    text = recorder.file.getvalue()  # type: ignore[attr-defined]
    still = re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "*", text)  # the spinner turns with the clock
    return "\n".join(line.rstrip() for line in still.splitlines())


GOLDEN_80 = """\
runs/quick                                                           * searching
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸                                              41%
programs    8,213 of 20,000, 1:10 spent, 1:26 left
speed       137 programs/s   999 evaluated   14 champion tests
cache hits  87.8 %   redundant statements 61.0 %
champion    #4711  fitness +0.128  95% [+0.117, +0.138]  16 fresh seeds
            digits-mlp +0.11  topics-attention +0.15

  def train(w, g, m, lr):
      v1 = interp(g, m, 0.9)
      update = sign(v1)
      m = interp(g, m, 0.99)
      v2 = w * 0.1
      update = update + v2
      lr = lr * 0.0001
      update = update * lr
      return update, m"""


def test_the_panel_at_80_columns() -> None:
    assert drawn(80, snapshot()) == GOLDEN_80


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_wraps(width: int) -> None:
    text = drawn(width, snapshot())
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert len(text.splitlines()) == len(GOLDEN_80.splitlines())


def test_a_slow_start_says_what_it_is_doing() -> None:
    assert drawn(80, None) == (
        "runs/quick                                       * compiling digits-mlp (1 of 4)"
    )


def test_piped_to_a_file_it_prints_plain_lines_now_and_then() -> None:
    file = io.StringIO()
    with LiveView(Console(file=file, width=80), "runs/quick", MeasurementConfig()) as view:
        view.phase("loading tasks")
        for _ in range(100):
            view.update(snapshot())
    assert file.getvalue() == (
        "runs/quick: loading tasks\n"
        "runs/quick: 8,213 of 20,000, 1:10 spent, 1:26 left; cache hits 87.8 %; champion #4711  "
        "fitness +0.128  95% [+0.117, +0.138]  16 fresh seeds\n"
    )


def test_a_dumb_terminal_gets_plain_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    with LiveView(
        Console(file=file, force_terminal=True), "runs/quick", MeasurementConfig()
    ) as view:
        view.phase("loading tasks")
    assert file.getvalue() == "runs/quick: loading tasks\n"


def test_time_left_is_the_nearer_of_the_two_limits() -> None:
    by_programs = snapshot()
    left = seconds_left(by_programs)
    assert left is not None
    assert left == pytest.approx((20_000 - 8213) / (8213 / 60))
    assert seconds_left(replace(by_programs, minutes=1.5)) == pytest.approx(20)
    assert seconds_left(replace(by_programs, programs=None, minutes=None)) is None
    assert fraction_done(replace(by_programs, minutes=1.25)) == pytest.approx(70 / 75)


def test_a_limit_of_trainings_counts_like_one_of_programs() -> None:
    seen = replace(snapshot(), programs=None, minutes=None, trainings_limit=4000)
    assert fraction_done(seen) == pytest.approx(3000 / 4000)
    assert seconds_left(seen) == pytest.approx(60 * 1000 / 3000)
    resumed = replace(seen, replayed_trainings=1500)
    assert seconds_left(resumed) == pytest.approx(60 * 1000 / 1500)
    assert "8,213, 3,000 of 4,000 trainings, 1:10 spent" in drawn(80, seen)


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (123.9, "2:03"), (3723, "1:02:03")])
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
