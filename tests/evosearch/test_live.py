"""The live view, as goldens: 80 and 120 columns, no colour, piped to a file."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from evosearch.cli.live import LiveView, progress
from evosearch.config import MeasurementConfig
from evosearch.evolution.evolution import Counts
from evosearch.evolution.records import Champion, Record
from evosearch.pipeline.observers import Snapshot
from evosearch.report.run import duration
from evosearch.seeds import Seed, Stream
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
━━━━━━━━━━━━━━━━━━                           8,213 of 20,000 programs, 1:26 left
programs    8,213 in 1:10
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
        "runs/quick: 8,213 of 20,000 programs, 1:26 left; cache hits 87.8 %; champion #4711  "
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


def test_the_bar_shows_the_one_limit_that_is_reached_first_at_the_pace_so_far() -> None:
    both = snapshot()
    by_programs = progress(both)
    assert by_programs is not None
    assert by_programs.fraction == 8213 / 20_000
    assert by_programs.seconds_left == pytest.approx((20_000 - 8213) / (8213 / 60))
    assert str(by_programs) == "8,213 of 20,000 programs, 1:26 left"
    assert str(progress(replace(both, minutes=1.5))) == "1:10 of 1:30, 0:20 left"
    assert str(progress(replace(both, minutes=1.5, elapsed_seconds=95.0))) == (
        "1:30 of 1:30, 0:00 left"
    )
    # Nothing is known of the pace yet; time is.
    assert str(progress(replace(both, searching_seconds=0.5))) == "1:10 of 4:30, 3:20 left"
    assert progress(replace(both, programs=None, minutes=None)) is None
    assert "━" not in drawn(80, replace(both, programs=None, minutes=None))


def test_a_limit_of_trainings_counts_like_one_of_programs() -> None:
    seen = replace(snapshot(), programs=None, minutes=None, trainings_limit=4000)
    assert str(progress(seen)) == "3,000 of 4,000 trainings, 0:20 left"
    resumed = replace(seen, replayed_trainings=1500)
    assert str(progress(resumed)) == "3,000 of 4,000 trainings, 0:40 left"
    assert "3,000 of 4,000 trainings, 0:20 left" in drawn(80, seen)


@pytest.mark.parametrize(
    ("score", "stream", "style"),
    [
        (0.1, Stream.CONFIRM, "bold green"),
        (-0.1, Stream.CONFIRM, "bold red"),
        (0.0, Stream.CONFIRM, "bold"),
        (0.1, Stream.SEARCH, "bold"),  # these seeds selected it
    ],
)
def test_a_champion_is_green_only_where_it_is_shown_to_beat_the_baseline(
    score: float, stream: Stream, style: str
) -> None:
    program = zoo.load("lion")
    record = Record(4711, program, semantic_key(program))
    for number in range(16):
        record.add(Seed(stream, number), {"digits-mlp": score})
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    view = LiveView(console, "runs/quick", MeasurementConfig())
    view.update(replace(snapshot(), champion=Champion(record)))
    with console.capture() as drawing:
        console.print(view.render())
    with console.capture() as expected:
        console.print(Text("#4711", style=style), end="")
    code = expected.get().partition("#4711")[0]
    line = next(one for one in drawing.get().splitlines() if "#4711" in one)
    assert f"{code}#4711" in line


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (123.9, "2:03"), (3723, "1:02:03")])
def test_durations_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
