"""Compares the live view with golden output at 80 columns without colour, and in a file."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from evosearch.cli.live import LiveView, nearest_limit
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


def draw(width: int, displayed: Snapshot | None) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    view = LiveView(console, "runs/quick", MeasurementConfig())
    view.phase("compiling digits-mlp (1 of 4)")
    if displayed is not None:
        view.update(displayed)
    plain_console = Console(width=width, file=io.StringIO(), color_system=None)
    plain_console.print(view.render())
    text = plain_console.file.getvalue()  # type: ignore[attr-defined]
    text = re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "*", text)  # the spinner depends on the time
    return "\n".join(line.rstrip() for line in text.splitlines())


GOLDEN_80 = """\
runs/quick                                                           * searching
━━━━━━━━━━━━━━━━━━                           8,213 of 20,000 programs, 1:26 left
programs    8,213 in 1:10
speed       137 programs/s   999 measured   14 challengers tested
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


def test_the_live_view_at_80_columns() -> None:
    assert draw(80, snapshot()) == GOLDEN_80


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_wraps(width: int) -> None:
    text = draw(width, snapshot())
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert len(text.splitlines()) == len(GOLDEN_80.splitlines())


def test_before_the_first_result_the_view_shows_the_phase() -> None:
    assert draw(80, None) == (
        "runs/quick                                       * compiling digits-mlp (1 of 4)"
    )


def test_a_file_gets_plain_lines_at_intervals() -> None:
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


def test_the_bar_shows_the_limit_that_is_reached_first_at_the_speed_so_far() -> None:
    with_both_limits = snapshot()
    by_programs = nearest_limit(with_both_limits)
    assert by_programs is not None
    assert by_programs.fraction == 8213 / 20_000
    assert by_programs.seconds_left == pytest.approx((20_000 - 8213) / (8213 / 60))
    assert str(by_programs) == "8,213 of 20,000 programs, 1:26 left"
    assert str(nearest_limit(replace(with_both_limits, minutes=1.5))) == "1:10 of 1:30, 0:20 left"
    assert str(nearest_limit(replace(with_both_limits, minutes=1.5, elapsed_seconds=95.0))) == (
        "1:30 of 1:30, 0:00 left"
    )
    # Before the speed can be estimated, the time left is known only for the time limit.
    assert (
        str(nearest_limit(replace(with_both_limits, searching_seconds=0.5)))
        == "1:10 of 4:30, 3:20 left"
    )
    assert nearest_limit(replace(with_both_limits, programs=None, minutes=None)) is None
    assert "━" not in draw(80, replace(with_both_limits, programs=None, minutes=None))


def test_a_limit_of_trainings_is_shown_like_a_limit_of_programs() -> None:
    with_training_limit = replace(snapshot(), programs=None, minutes=None, trainings_limit=4000)
    assert str(nearest_limit(with_training_limit)) == "3,000 of 4,000 trainings, 0:20 left"
    resumed = replace(with_training_limit, replayed_trainings=1500)
    assert str(nearest_limit(resumed)) == "3,000 of 4,000 trainings, 0:40 left"
    assert "3,000 of 4,000 trainings, 0:20 left" in draw(80, with_training_limit)


@pytest.mark.parametrize(
    ("score", "stream", "style"),
    [
        (0.1, Stream.CONFIRM, "bold green"),
        (-0.1, Stream.CONFIRM, "bold red"),
        (0.0, Stream.CONFIRM, "bold"),
        (0.1, Stream.SEARCH, "bold"),  # the seeds that selected the champion
    ],
)
def test_a_champion_is_green_only_if_it_is_shown_to_beat_the_baseline(
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
    line = next(line for line in drawing.get().splitlines() if "#4711" in line)
    assert f"{code}#4711" in line


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (123.9, "2:03"), (3723, "1:02:03")])
def test_durations_are_formatted_as_on_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
