"""Evaluation: equal tuning, paired seeds, verdicts, and the JSON document."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from evosearch.errors import EvosearchError, UsageError
from evosearch.evaluation.comparison import compare
from evosearch.evaluation.evaluation import evaluate
from evosearch.evaluation.results import Evaluation, Result, TaskReport
from evosearch.measuring import contenders
from evosearch.measuring.engines import Trainer, seed_key
from evosearch.measuring.job import Job, JobResult
from evosearch.measuring.ledger import Ledger
from evosearch.report import files
from evosearch.report.evaluation import evaluation_report, sentences
from evosearch.report.markdown import markdown
from evosearch.report.terminal import show
from evosearch.seeds import Seed, Stream
from primitives import parse, zoo

DIVERGES = parse(
    "def train(w, g, lr):\n    u = g - g\n    u = u - 1\n    u = log(u)\n    return u\n"
)
STUCK = parse("def train(w, g, lr):\n    u = g * 0.0\n    return u\n")
TASK = "digits-mlp"


@pytest.fixture(scope="module")
def single() -> Evaluation:
    """Five contenders on one task with few steps."""
    return evaluate(
        {"copy": zoo.load("adamw"), "stuck": STUCK, "diverges": DIVERGES},
        TASK,
        against=["adamw", "momentum"],
        seeds=4,
        steps=15,
        tuning_seeds=1,
        lrs=[4, 16, 64],
        workers=2,
    )


def result(evaluation: Evaluation, program: str, task: int = 0) -> Result:
    return next(r for r in evaluation.tasks[task].results if r.program == program)


def test_the_document_of_one_task_has_the_documented_fields(single: Evaluation) -> None:
    document = single.document()
    assert list(document) == ["task", "split", "metric", "steps", "results"]
    assert (document["task"], document["split"], document["steps"]) == (TASK, "search", 15)
    assert [r["program"] for r in document["results"]] == [
        "copy", "stuck", "diverges", "adamw", "momentum",
    ]  # fmt: skip
    copy = document["results"][0]
    assert list(copy) == [
        "program", "lr", "decay", "lr_at_edge", "mean", "low", "high", "seeds", "scores",
        "diverged", "trials", "curve", "update_rms", "sharpness", "versus", "source",
    ]  # fmt: skip
    assert list(copy["versus"]) == ["adamw", "momentum"]
    assert set(copy["versus"]["adamw"]) == {"difference", "low", "high", "p", "p_holm", "real"}
    assert copy["low"] < copy["mean"] < copy["high"]
    assert copy["mean"] == pytest.approx(np.mean(copy["scores"]))
    assert copy["seeds"] == len(copy["scores"]) == 4
    assert parse(copy["source"]) == zoo.load("adamw")


def test_the_document_is_valid_json_without_infinities(single: Evaluation) -> None:
    document = json.loads(json.dumps(single.document(), allow_nan=False))
    diverged = document["results"][2]
    assert diverged["mean"] is diverged["low"] is diverged["high"] is None
    assert diverged["scores"] == [None] * 4
    assert {trial["loss"] for trial in diverged["trials"]} == {None}


def test_all_contenders_get_the_same_number_of_trials(single: Evaluation) -> None:
    assert len({len(result.trials) for result in single.tasks[0].results}) == 1


def test_the_best_rate_is_inside_the_grid(single: Evaluation) -> None:
    for name in ("adamw", "momentum"):
        tuned = result(single, name)
        assert min(tuned.trials).lr < tuned.lr < max(tuned.trials).lr


def test_a_program_against_itself_has_no_difference(single: Evaluation) -> None:
    difference = result(single, "copy").versus["adamw"]
    assert difference.interval.mean == 0
    assert difference.p == 1
    assert difference.verdict == "tie"
    assert result(single, "copy").losses == result(single, "adamw").losses


def test_a_clearly_worse_program_is_significantly_worse(single: Evaluation) -> None:
    assert result(single, "stuck").versus["adamw"].verdict == "worse"


def test_a_best_rate_at_the_edge_of_the_grid_is_reported(single: Evaluation) -> None:
    """A program that does not move has the same loss at every rate, so the smallest is its best."""
    assert result(single, "stuck").at_edge
    assert not result(single, "copy").at_edge
    assert "at the edge of the grid for stuck (" in sentences(single)[0]


def test_divergence_is_counted_and_has_the_worst_difference(single: Evaluation) -> None:
    diverged = result(single, "diverges")
    assert diverged.diverged == 4
    assert diverged.loss is None
    assert diverged.versus["adamw"].interval.mean == pytest.approx(math.log(4))
    assert diverged.versus["adamw"].verdict == "worse"


def test_a_reference_is_compared_only_with_the_first(single: Evaluation) -> None:
    assert not result(single, "adamw").versus
    assert list(result(single, "momentum").versus) == ["adamw"]
    assert single.comparisons == 3 * 2 + 1


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    def document(workers: int) -> dict[str, Any]:
        return evaluate(
            [zoo.load("sgd")], TASK, seeds=2, steps=4, tuning_seeds=1, workers=workers
        ).document()

    assert document(1) == document(3)


@pytest.fixture(scope="module")
def several() -> Evaluation:
    """Two tasks, one of which is deterministic."""
    return evaluate(
        [zoo.load("sgd")],
        ["quadratic", TASK],
        against=["adamw"],
        seeds=3,
        steps=10,
        tuning_seeds=1,
        workers=2,
    )


def test_over_several_tasks_the_fitness_is_the_mean_paired_log_ratio(several: Evaluation) -> None:
    losses = {
        name: np.array([result(several, name, task).losses for task in range(2)])
        for name in ("sgd", "adamw")
    }
    by_task = np.clip(np.log(losses["adamw"] / losses["sgd"]), -math.log(4), math.log(4))
    sgd, adamw = several.overall
    assert (sgd.program, adamw.program) == ("sgd", "adamw")
    assert sgd.interval.mean == pytest.approx(np.mean(by_task))
    assert sgd.interval.low < sgd.interval.mean < sgd.interval.high
    assert sgd.per_task == pytest.approx({"quadratic": by_task[0].mean(), TASK: by_task[1].mean()})
    assert adamw.interval == (0, 0, 0)


def test_the_document_of_several_tasks_has_the_documented_fields(several: Evaluation) -> None:
    document = json.loads(json.dumps(several.document(), allow_nan=False))
    assert list(document) == ["tasks", "overall", "standings", "reference"]
    assert [report["task"] for report in document["tasks"]] == ["quadratic", TASK]
    assert set(document["overall"][0]) >= {"program", "fitness", "low", "high", "per_task"}
    assert set(document["standings"][0]) == {
        "program", "wins", "losses", "ties", "mean_rank", "ratio", "ratio_low", "ratio_high",
        "on_these_tasks", "p_holm", "verdict",
    }  # fmt: skip
    assert document["reference"] == "adamw"


def test_all_streams_have_distinct_seeds() -> None:
    keys = {
        tuple(jax.random.key_data(seed_key(0, Seed(stream, number))).tolist())
        for stream in Stream
        for number in range(50)
    }
    assert len(keys) == len(Stream) * 50


def test_progress_never_decreases_and_ends_complete() -> None:
    progress: list[tuple[str, int, int]] = []
    evaluate(
        [zoo.load("sgd")],
        "quadratic",
        seeds=2,
        steps=3,
        tuning_seeds=1,
        progress=lambda text, done, total: progress.append((text, done, total)),
    )
    assert progress[0][0] == "quadratic: tuning"
    assert [done for _, done, _ in progress] == sorted(done for _, done, _ in progress)
    assert progress[-1][1] == progress[-1][2] > 0


def test_a_reference_that_always_diverges_is_named() -> None:
    with pytest.raises(EvosearchError, match="reference 'broken' diverges on 'quadratic'"):
        evaluate({}, "quadratic", against={"broken": DIVERGES}, seeds=2, tuning_seeds=1, steps=3)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"task": "digits-mpl"}, "did you mean 'digits-mlp'"),
        ({"task": []}, "no task"),
        ({"against": ["adanw"]}, "did you mean 'adamw'"),
        ({"against": []}, "no reference to compare with"),
        ({"against": ["sgd"]}, "sgd would be compared only with itself"),
        ({"against": {"sgd": STUCK}}, "'sgd' names both a program and a different reference"),
        ({"seeds": 1}, "seeds = 1"),
        ({"tuning_seeds": 0}, "tuning_seeds = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"workers": 0}, "workers = 0"),
        ({"lrs": []}, "none given"),
        ({"lrs": [1.0, -1.0]}, "-1.0"),
        ({"lrs": [math.nan]}, "nan"),
    ],
)
def test_an_invalid_argument_is_named_before_any_training(
    arguments: dict[str, Any], culprit: str
) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate({"sgd": zoo.load("sgd")}, **{"task": "quadratic", **arguments})
    assert culprit in str(caught.value)


def simulated_report(**losses: list[float]) -> TaskReport:
    results = [Result(name, "", 1.0, {}, tuple(values)) for name, values in losses.items()]
    return TaskReport("simulated", "held-out", "nats", 10, tuple(results))


def test_a_chance_difference_among_many_contenders_is_not_significant() -> None:
    rng = np.random.default_rng(1)
    noise = {f"p{i}": list(np.exp(0.1 * rng.normal(size=8))) for i in range(40)}
    evaluation = compare([simulated_report(reference=[1.0] * 8, **noise)], ["reference"], 3)
    differences = [d for r in evaluation.tasks[0].results for d in r.versus.values()]
    assert min(difference.p for difference in differences) < 0.05
    assert not any(difference.is_significant for difference in differences)


def test_a_small_paired_difference_is_significant_even_if_the_intervals_overlap() -> None:
    base = [0.5, 1.0, 2.0, 3.0, 4.0]
    better = [0.97 * loss for loss in base]
    evaluation = compare([simulated_report(better=better, reference=base)], ["reference"], 3)
    compared = result(evaluation, "better")
    assert compared.versus["reference"].verdict == "better"
    assert compared.loss is not None
    assert compared.loss.high > 1.0


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal(single: Evaluation, several: Evaluation, width: int) -> None:
    for evaluation in (single, several):
        console = Console(width=width)
        with console.capture() as capture:
            show(evaluation_report(evaluation), console)
        assert max(map(len, capture.get().splitlines())) <= width
        for result in evaluation.tasks[0].results:
            for difference in result.versus.values():
                assert difference.verdict in capture.get()


def test_the_last_lines_state_the_verdicts(single: Evaluation, several: Evaluation) -> None:
    assert "copy is not shown to differ from adamw" in sentences(single)[0]
    assert "diverges diverged on every seed" in sentences(single)[0]
    assert sentences(several)[-1].startswith(("Over tasks, sgd is ", "On these 2 tasks sgd's "))


def test_trainings_in_the_ledger_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    arguments = {
        "against": ["adamw"],
        "seeds": 2,
        "steps": 4,
        "tuning_seeds": 1,
        "workers": 2,
        "ledger": ledger,
    }
    first = evaluate([zoo.load("sgd")], TASK, **arguments)

    def train(trainer: Trainer, job: Job) -> JobResult:
        raise AssertionError(f"trained again: {job}")

    monkeypatch.setattr(Trainer, "train", train)
    assert evaluate([zoo.load("sgd")], TASK, **arguments).document() == first.document()
    with pytest.raises(AssertionError, match="trained again"):
        evaluate([zoo.load("sgd")], TASK, **{**arguments, "steps": 5})


def test_weight_decay_is_tuned_for_all_contenders() -> None:
    """On the quadratic the optimum is zero, which `stuck` reaches only by weight decay."""
    evaluation = evaluate(
        {"stuck": STUCK, "sgd": zoo.load("sgd")},
        "quadratic",
        against=["adamw"],
        seeds=2,
        steps=20,
        tuning_seeds=1,
        decays=[0.1, 1.0],
        sharpness=True,
    )
    sharpness = [r.sharpness for r in evaluation.tasks[0].results]
    # The Hessian of the quadratic is constant.
    assert sharpness == pytest.approx([sharpness[0]] * len(sharpness))
    assert result(evaluation, "stuck").decay >= 3.0
    assert result(evaluation, "stuck").loss.mean < 0.01  # type: ignore[union-attr]
    assert len({len(r.trials) for r in evaluation.tasks[0].results}) == 1


@pytest.mark.parametrize("name", contenders.optax_names())
def test_optimizers_of_optax_can_be_contenders(name: str) -> None:
    evaluation = evaluate(
        {name: contenders.find(name)},
        TASK,
        against=["sgd"],
        seeds=2,
        steps=30,
        tuning_seeds=1,
        lrs=[1.0, 4.0],
    )
    contender = result(evaluation, name)
    assert contender.diverged == 0
    assert np.isfinite(contender.curve).all()
    assert max(contender.losses) < 2.0 < contender.curve[0]


def test_sgd_of_optax_is_the_zoos_sgd_at_a_tenth_of_the_rate() -> None:
    evaluation = evaluate(
        {"optax": contenders.find("optax:sgd"), "zoo": zoo.load("sgd")},
        TASK,
        against=["adamw"],
        seeds=2,
        steps=30,
        tuning_seeds=1,
        lrs=[0.1, 1.0, 10.0],
    )
    optax_losses, zoo_losses = (
        {s.lr: loss for s, loss in r.trials.items()} for r in evaluation.tasks[0].results[:2]
    )
    for rate in (0.1, 1.0):
        assert optax_losses[10 * rate] == pytest.approx(zoo_losses[rate], rel=1e-3)


def test_standings_count_wins_and_compute_ranks_and_ratios(several: Evaluation) -> None:
    sgd = next(s for s in several.standings if s.program == "sgd")
    adamw = next(s for s in several.standings if s.program == "adamw")
    assert sgd.wins + sgd.losses + sgd.ties == adamw.ties == 2
    assert sgd.mean_rank + adamw.mean_rank == 3
    assert sgd.ratio.mean == pytest.approx(math.exp(-several.overall[0].interval.mean))
    assert sgd.ratio.low <= sgd.ratio.mean <= sgd.ratio.high
    assert adamw.ratio == (1, 1, 1)
    assert adamw.verdict == "the reference"
    assert several.standings[0].ratio.mean == min(sgd.ratio.mean, 1)


def test_the_bootstrap_interval_is_wide_if_the_tasks_differ() -> None:
    def report(task: str, losses: tuple[float, ...]) -> TaskReport:
        reference_losses = tuple(1.0 for _ in losses)
        results = [
            Result("candidate", "", 1.0, {}, losses),
            Result("ref", "", 1.0, {}, reference_losses),
        ]
        return TaskReport(task, "search", "loss", 10, tuple(results))

    similar = compare([report(t, (0.9, 0.9, 0.9)) for t in "abcd"], ["ref"], 1)
    assert similar.standings[0].ratio == pytest.approx((0.9, 0.9, 0.9))
    losses = {"a": 0.5, "b": 0.5, "c": 2.0, "d": 2.0}
    mixed = compare([report(task, (x,) * 3) for task, x in losses.items()], ["ref"], 1)
    ratio = next(s.ratio for s in mixed.standings if s.program == "candidate")
    assert ratio.mean == pytest.approx(1.0)
    assert ratio.low == pytest.approx(0.5, rel=0.1)
    assert ratio.high == pytest.approx(2.0, rel=0.1)


def suite(*by_task: dict[str, float], noise: float = 0.0) -> Evaluation:
    """Simulate an evaluation on four seeds, with losses by contender for each task.

    The reference's loss is 1.0 on each task.
    """
    rng = np.random.default_rng(0)
    reports = []
    for losses in by_task:
        contenders = {
            name: list(loss * np.exp(noise * rng.normal(size=4))) for name, loss in losses.items()
        }
        reports.append(
            replace(simulated_report(**contenders, adamw=[1.0] * 4), task=f"t{len(reports)}")
        )
    return compare(reports, ["adamw"], 1)


def test_better_over_tasks_requires_that_tasks_agree() -> None:
    """Without noise every difference is significant on the measured tasks."""
    similar = suite(*({"lion": 0.9 + 0.01 * n} for n in range(8)))
    assert similar.standings[0].verdict == "better"
    assert sentences(similar)[-1].startswith("Over tasks, lion is better than adamw: its mean")
    worse = suite(*({"lion": 1.1 + 0.01 * n} for n in range(8)))
    assert worse.standings[1].verdict == "worse"
    losses = (0.3, 0.3, 0.3, 0.9, 1.1, 1.5, 1.5, 1.6, 1.8, 1.95)  # from eval lion --landscapes
    mixed = suite(*({"lion": loss} for loss in losses))
    lion = next(s for s in mixed.standings if s.program == "lion")
    assert mixed.overall[0].difference is not None
    assert mixed.overall[0].difference.verdict == lion.verdict_on_tasks == "better"
    assert lion.ratio.low < 1 < lion.ratio.high
    assert lion.verdict == "undecided"
    text = sentences(mixed)[-1]
    assert "On these 10 tasks lion's mean loss is" in text
    assert "% lower than adamw's; the interval over tasks (-" in text
    assert "leaves open whether this holds on other" in text
    assert "better" not in text
    assert "| undecided |" in markdown(evaluation_report(mixed))


def test_two_tasks_are_too_few_for_a_verdict_over_tasks() -> None:
    """Even if the bootstrap interval excludes 1."""
    two = suite({"lion": 0.5}, {"lion": 0.8})
    assert two.standings[0].ratio.high < 1
    assert two.standings[0].verdict == "undecided"
    assert "too few or differ too much to show" in sentences(two)[-1]


def test_verdicts_over_tasks_are_corrected_for_many_contenders() -> None:
    """Among forty contenders without any effect some interval excludes 1, but no verdict does."""
    rng = np.random.default_rng(2)
    losses = [{f"p{n}": math.exp(0.3 * rng.normal()) for n in range(40)} for _ in range(8)]
    standings = [s for s in suite(*losses).standings if s.program != "adamw"]
    assert any(s.ratio.high < 1 or s.ratio.low > 1 for s in standings)
    assert {s.verdict for s in standings} == {"undecided"}


def test_a_difference_that_is_not_significant_is_not_generalized() -> None:
    noisy = suite(*({"lion": 0.98} for _ in range(4)), noise=0.2)
    assert noisy.standings[0].verdict == "undecided"
    assert "lion's mean loss is not shown to differ from adamw's" in sentences(noisy)[-1]


def test_a_win_with_diverged_seeds_reports_them() -> None:
    losses = [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, math.inf]
    evaluation = compare([simulated_report(lion=losses, adamw=[1.0] * 12)], ["adamw"], 1)
    assert "lion is better than adamw, and diverged on 1/12 seeds" in sentences(evaluation)[0]


@pytest.mark.parametrize("suffix", [".md", ".json", ".svg", ".png"])
def test_reports_are_written_without_temporary_files(
    several: Evaluation, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"report{suffix}"
    files.check(path)
    files.write(several, path)
    content = path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        return
    for word in (b"sgd", b"adamw", TASK.encode()):
        assert word in content


@pytest.mark.parametrize(
    ("name", "culprit"), [("report.txt", "must be one of .md"), ("no/where.md", "not a directory")]
)
def test_a_report_that_cannot_be_written_is_refused_before_any_training(
    tmp_path: Path, name: str, culprit: str
) -> None:
    with pytest.raises(UsageError, match=culprit):
        files.check(tmp_path / name)
