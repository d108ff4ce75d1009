"""Tests of the live view, compared with golden output on a terminal and in a file."""

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
from evosearch.report.run import format_duration
from evosearch.seeds import Seed, Stream
from primitives import semantic_key, zoo


def make_snapshot() -> Snapshot:
    """Return the progress of a search whose champion, Lion, has 16 confirming seeds."""
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


def text_of_view(width: int, snapshot: Snapshot | None) -> str:
    """Return the text of the live view; without a snapshot, before the first result."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    view = LiveView(console, "runs/quick", MeasurementConfig())
    view.phase("compiling digits-mlp (1 of 4)")
    if snapshot is not None:
        view.update(snapshot)
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
    assert text_of_view(80, make_snapshot()) == GOLDEN_80


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_nothing_wraps(width: int) -> None:
    text = text_of_view(width, make_snapshot())
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert len(text.splitlines()) == len(GOLDEN_80.splitlines())


def test_before_the_first_result_the_view_shows_the_phase() -> None:
    assert text_of_view(80, None) == (
        "runs/quick                                       * compiling digits-mlp (1 of 4)"
    )


def test_in_a_file_the_live_view_is_plain_lines_at_intervals() -> None:
    file = io.StringIO()
    with LiveView(Console(file=file, width=80), "runs/quick", MeasurementConfig()) as view:
        view.phase("loading tasks")
        for _ in range(100):
            view.update(make_snapshot())
    assert file.getvalue() == (
        "runs/quick: loading tasks\n"
        "runs/quick: 8,213 of 20,000 programs, 1:26 left; cache hits 87.8 %; champion #4711  "
        "fitness +0.128  95% [+0.117, +0.138]  16 fresh seeds\n"
    )


def test_on_a_dumb_terminal_the_live_view_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()
    with LiveView(
        Console(file=file, force_terminal=True), "runs/quick", MeasurementConfig()
    ) as view:
        view.phase("loading tasks")
    assert file.getvalue() == "runs/quick: loading tasks\n"


def test_the_bar_shows_the_limit_that_is_reached_first_at_the_speed_so_far() -> None:
    with_both_limits = make_snapshot()
    limit = nearest_limit(with_both_limits)
    assert limit is not None
    assert limit.fraction == 8213 / 20_000
    programs_per_second = 8213 / 60
    assert limit.seconds_left == pytest.approx((20_000 - 8213) / programs_per_second)
    assert str(limit) == "8,213 of 20,000 programs, 1:26 left"
    with_shorter_time = replace(with_both_limits, minutes=1.5)
    assert str(nearest_limit(with_shorter_time)) == "1:10 of 1:30, 0:20 left"
    after_time_limit = replace(with_shorter_time, elapsed_seconds=95.0)
    assert str(nearest_limit(after_time_limit)) == "1:30 of 1:30, 0:00 left"


def test_before_the_speed_can_be_estimated_the_bar_shows_the_time_limit() -> None:
    snapshot = replace(make_snapshot(), searching_seconds=0.5)
    assert str(nearest_limit(snapshot)) == "1:10 of 4:30, 3:20 left"


def test_without_limits_no_bar_is_shown() -> None:
    snapshot = replace(make_snapshot(), programs=None, minutes=None)
    assert nearest_limit(snapshot) is None
    assert "━" not in text_of_view(80, snapshot)


def test_a_limit_of_trainings_is_shown_like_a_limit_of_programs() -> None:
    with_training_limit = replace(
        make_snapshot(), programs=None, minutes=None, trainings_limit=4000
    )
    assert str(nearest_limit(with_training_limit)) == "3,000 of 4,000 trainings, 0:20 left"
    resumed = replace(with_training_limit, replayed_trainings=1500)
    assert str(nearest_limit(resumed)) == "3,000 of 4,000 trainings, 0:40 left"
    assert "3,000 of 4,000 trainings, 0:20 left" in text_of_view(80, with_training_limit)


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
    view.update(replace(make_snapshot(), champion=Champion(record)))
    with console.capture() as drawing:
        console.print(view.render())
    with console.capture() as expected:
        console.print(Text("#4711", style=style), end="")
    style_code = expected.get().partition("#4711")[0]
    line = next(line for line in drawing.get().splitlines() if "#4711" in line)
    assert f"{style_code}#4711" in line


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (123.9, "2:03"), (3723, "1:02:03")])
def test_durations_are_formatted_as_on_a_clock(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
