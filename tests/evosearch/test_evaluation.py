"""Evaluation: fair tuning, paired seeds, honest verdicts, a document that is JSON."""

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
def one() -> Evaluation:
    """Five contenders on one task, briefly."""
    return evaluate(
        {"mine": zoo.load("adamw"), "stuck": STUCK, "diverges": DIVERGES},
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


def test_the_document_of_one_task_has_the_promised_fields(one: Evaluation) -> None:
    document = one.document()
    assert list(document) == ["task", "split", "metric", "steps", "results"]
    assert (document["task"], document["split"], document["steps"]) == (TASK, "search", 15)
    assert [r["program"] for r in document["results"]] == [
        "mine", "stuck", "diverges", "adamw", "momentum",
    ]  # fmt: skip
    mine = document["results"][0]
    assert list(mine) == [
        "program", "lr", "decay", "lr_at_edge", "mean", "low", "high", "seeds", "scores",
        "diverged", "trials", "curve", "update_rms", "sharpness", "versus", "source",
    ]  # fmt: skip
    assert list(mine["versus"]) == ["adamw", "momentum"]
    assert set(mine["versus"]["adamw"]) == {"difference", "low", "high", "p", "p_holm", "real"}
    assert mine["low"] < mine["mean"] < mine["high"]
    assert mine["mean"] == pytest.approx(np.mean(mine["scores"]))
    assert mine["seeds"] == len(mine["scores"]) == 4
    assert parse(mine["source"]) == zoo.load("adamw")


def test_the_document_is_json_without_infinities(one: Evaluation) -> None:
    document = json.loads(json.dumps(one.document(), allow_nan=False))
    diverged = document["results"][2]
    assert diverged["mean"] is diverged["low"] is diverged["high"] is None
    assert diverged["scores"] == [None] * 4
    assert {trial["loss"] for trial in diverged["trials"]} == {None}


def test_every_contender_gets_as_many_trials(one: Evaluation) -> None:
    assert len({len(result.trials) for result in one.tasks[0].results}) == 1


def test_the_best_rate_is_inside_the_grid(one: Evaluation) -> None:
    for name in ("adamw", "momentum"):
        found = result(one, name)
        assert min(found.trials).lr < found.lr < max(found.trials).lr


def test_a_program_against_itself_has_no_difference(one: Evaluation) -> None:
    difference = result(one, "mine").versus["adamw"]
    assert difference.interval.mean == 0
    assert difference.p == 1
    assert difference.verdict == "tie"
    assert result(one, "mine").losses == result(one, "adamw").losses


def test_a_clearly_worse_program_is_really_worse(one: Evaluation) -> None:
    assert result(one, "stuck").versus["adamw"].verdict == "worse"


def test_a_best_rate_at_the_edge_of_those_tried_is_said_to_be_one(one: Evaluation) -> None:
    """What does not move is as bad at every rate, so the smallest is its best."""
    assert result(one, "stuck").at_edge
    assert not result(one, "mine").at_edge
    assert "at the edge of the grid for stuck (" in sentences(one)[0]


def test_divergence_is_counted_and_is_the_worst_difference(one: Evaluation) -> None:
    found = result(one, "diverges")
    assert found.diverged == 4
    assert found.loss is None
    assert found.versus["adamw"].interval.mean == pytest.approx(math.log(4))
    assert found.versus["adamw"].verdict == "worse"


def test_a_reference_is_compared_with_the_first_only(one: Evaluation) -> None:
    assert not result(one, "adamw").versus
    assert list(result(one, "momentum").versus) == ["adamw"]
    assert one.comparisons == 3 * 2 + 1


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    def document(workers: int) -> dict[str, Any]:
        return evaluate(
            [zoo.load("sgd")], TASK, seeds=2, steps=4, tuning_seeds=1, workers=workers
        ).document()

    assert document(1) == document(3)


@pytest.fixture(scope="module")
def several() -> Evaluation:
    """Two tasks, one of which has nothing random."""
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


def test_the_document_of_several_tasks_has_the_promised_fields(several: Evaluation) -> None:
    document = json.loads(json.dumps(several.document(), allow_nan=False))
    assert list(document) == ["tasks", "overall", "standings", "reference"]
    assert [report["task"] for report in document["tasks"]] == ["quadratic", TASK]
    assert set(document["overall"][0]) >= {"program", "fitness", "low", "high", "per_task"}
    assert set(document["standings"][0]) == {
        "program", "wins", "losses", "ties", "mean_rank", "ratio", "ratio_low", "ratio_high",
        "on_these_tasks", "p_holm", "verdict",
    }  # fmt: skip
    assert document["reference"] == "adamw"


def test_report_seeds_differ_from_tuning_seeds_and_from_all_of_a_search() -> None:
    keys = {
        tuple(jax.random.key_data(seed_key(0, Seed(stream, number))).tolist())
        for stream in Stream
        for number in range(50)
    }
    assert len(keys) == len(Stream) * 50


def test_progress_ends_when_everything_is_done() -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(
        [zoo.load("sgd")],
        "quadratic",
        seeds=2,
        steps=3,
        tuning_seeds=1,
        progress=lambda text, done, total: told.append((text, done, total)),
    )
    assert told[0][0] == "quadratic: tuning"
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] == told[-1][2] > 0


def test_a_reference_that_always_diverges_is_named() -> None:
    with pytest.raises(EvosearchError, match="reference 'broken' diverges on 'quadratic'"):
        evaluate({}, "quadratic", against={"broken": DIVERGES}, seeds=2, tuning_seeds=1, steps=3)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"task": "digits-mpl"}, "did you mean 'digits-mlp'"),
        ({"task": []}, "no task"),
        ({"against": ["adanw"]}, "did you mean 'adamw'"),
        ({"against": []}, "nothing to compare with"),
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
def test_a_wrong_argument_is_named_before_any_training(
    arguments: dict[str, Any], culprit: str
) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate({"sgd": zoo.load("sgd")}, **{"task": "quadratic", **arguments})
    assert culprit in str(caught.value)


def made_up(**losses: list[float]) -> TaskReport:
    results = [Result(name, "", 1.0, {}, tuple(found)) for name, found in losses.items()]
    return TaskReport("made-up", "held-out", "nats", 10, tuple(results))


def test_a_chance_difference_among_many_contenders_is_not_real() -> None:
    rng = np.random.default_rng(1)
    noise = {f"p{i}": list(np.exp(0.1 * rng.normal(size=8))) for i in range(40)}
    evaluation = compare([made_up(reference=[1.0] * 8, **noise)], ["reference"], 3)
    differences = [d for r in evaluation.tasks[0].results for d in r.versus.values()]
    assert min(difference.p for difference in differences) < 0.05
    assert not any(difference.is_significant for difference in differences)


def test_a_small_difference_on_the_same_seeds_is_real_though_the_intervals_overlap() -> None:
    base = [0.5, 1.0, 2.0, 3.0, 4.0]
    better = [0.97 * loss for loss in base]
    evaluation = compare([made_up(better=better, reference=base)], ["reference"], 3)
    found = result(evaluation, "better")
    assert found.versus["reference"].verdict == "better"
    assert found.loss is not None
    assert found.loss.high > 1.0


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal(one: Evaluation, several: Evaluation, width: int) -> None:
    for evaluation in (one, several):
        console = Console(width=width)
        with console.capture() as capture:
            show(evaluation_report(evaluation), console)
        assert max(map(len, capture.get().splitlines())) <= width
        for result in evaluation.tasks[0].results:
            for difference in result.versus.values():
                assert difference.verdict in capture.get()


def test_the_last_lines_say_in_words_what_is_real(one: Evaluation, several: Evaluation) -> None:
    assert "mine is not shown to differ from adamw" in sentences(one)[0]
    assert "diverges diverged on every seed" in sentences(one)[0]
    assert sentences(several)[-1].startswith(("Over tasks, sgd is ", "On these 2 tasks sgd's "))


def test_what_a_ledger_holds_is_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_weight_decay_is_tuned_for_all_alike_and_helps_who_needs_it() -> None:
    """On the bowl every weight wants to be zero, which `stuck` never reaches by itself."""
    found = evaluate(
        {"stuck": STUCK, "sgd": zoo.load("sgd")},
        "quadratic",
        against=["adamw"],
        seeds=2,
        steps=20,
        tuning_seeds=1,
        decays=[0.1, 1.0],
        sharpness=True,
    )
    sharp = [one.sharpness for one in found.tasks[0].results]
    assert sharp == pytest.approx([sharp[0]] * len(sharp))  # the bowl is as sharp everywhere
    assert result(found, "stuck").decay >= 3.0
    assert result(found, "stuck").loss.mean < 0.01  # type: ignore[union-attr]
    assert len({len(one.trials) for one in found.tasks[0].results}) == 1


@pytest.mark.parametrize("name", contenders.optax_names())
def test_optimizers_of_optax_take_part_as_they_are(name: str) -> None:
    found = evaluate(
        {name: contenders.find(name)},
        TASK,
        against=["sgd"],
        seeds=2,
        steps=30,
        tuning_seeds=1,
        lrs=[1.0, 4.0],
    )
    mine = result(found, name)
    assert mine.diverged == 0
    assert np.isfinite(mine.curve).all()
    assert max(mine.losses) < 2.0 < mine.curve[0]


def test_sgd_of_optax_is_the_zoos_at_a_tenth_of_the_rate() -> None:
    found = evaluate(
        {"theirs": contenders.find("optax:sgd"), "ours": zoo.load("sgd")},
        TASK,
        against=["adamw"],
        seeds=2,
        steps=30,
        tuning_seeds=1,
        lrs=[0.1, 1.0, 10.0],
    )
    theirs, ours = (
        {s.lr: loss for s, loss in one.trials.items()} for one in found.tasks[0].results[:2]
    )
    for rate in (0.1, 1.0):
        assert theirs[10 * rate] == pytest.approx(ours[rate], rel=1e-3)


def test_standings_count_wins_rank_and_pool_ratios(several: Evaluation) -> None:
    sgd = next(one for one in several.standings if one.program == "sgd")
    adamw = next(one for one in several.standings if one.program == "adamw")
    assert sgd.wins + sgd.losses + sgd.ties == adamw.ties == 2
    assert sgd.mean_rank + adamw.mean_rank == 3
    assert sgd.ratio.mean == pytest.approx(math.exp(-several.overall[0].interval.mean))
    assert sgd.ratio.low <= sgd.ratio.mean <= sgd.ratio.high
    assert adamw.ratio == (1, 1, 1)
    assert adamw.verdict == "the reference"
    assert several.standings[0].ratio.mean == min(sgd.ratio.mean, 1)


def test_a_bootstrap_over_tasks_is_as_wide_as_the_tasks_differ() -> None:
    def report(task: str, losses: tuple[float, ...]) -> TaskReport:
        others = tuple(1.0 for _ in losses)
        made = [
            Result("it", "", 1.0, {}, losses),
            Result("ref", "", 1.0, {}, others),
        ]
        return TaskReport(task, "search", "loss", 10, tuple(made))

    alike = compare([report(t, (0.9, 0.9, 0.9)) for t in "abcd"], ["ref"], 1)
    assert alike.standings[0].ratio == pytest.approx((0.9, 0.9, 0.9))
    losses = {"a": 0.5, "b": 0.5, "c": 2.0, "d": 2.0}
    mixed = compare([report(task, (x,) * 3) for task, x in losses.items()], ["ref"], 1)
    ratio = next(one.ratio for one in mixed.standings if one.program == "it")
    assert ratio.mean == pytest.approx(1.0)
    assert ratio.low == pytest.approx(0.5, rel=0.1)
    assert ratio.high == pytest.approx(2.0, rel=0.1)


def suite(*by_task: dict[str, float], noise: float = 0.0) -> Evaluation:
    """Losses against a reference's 1.0, a mapping by contender for each task, on four seeds."""
    rng = np.random.default_rng(0)
    reports = []
    for losses in by_task:
        contenders = {
            name: list(loss * np.exp(noise * rng.normal(size=4))) for name, loss in losses.items()
        }
        reports.append(replace(made_up(**contenders, adamw=[1.0] * 4), task=f"t{len(reports)}"))
    return compare(reports, ["adamw"], 1)


def test_better_over_tasks_is_said_only_where_tasks_agree() -> None:
    """Without noise between seeds every difference is real on the tasks that were measured."""
    alike = suite(*({"lion": 0.9 + 0.01 * n} for n in range(8)))
    assert alike.standings[0].verdict == "better"
    assert sentences(alike)[-1].startswith("Over tasks, lion is better than adamw: its mean")
    worse = suite(*({"lion": 1.1 + 0.01 * n} for n in range(8)))
    assert worse.standings[1].verdict == "worse"
    losses = (0.3, 0.3, 0.3, 0.9, 1.1, 1.5, 1.5, 1.6, 1.8, 1.95)  # as eval lion --landscapes found
    mixed = suite(*({"lion": loss} for loss in losses))
    lion = next(one for one in mixed.standings if one.program == "lion")
    assert mixed.overall[0].difference is not None
    assert mixed.overall[0].difference.verdict == lion.on_these == "better"
    assert lion.ratio.low < 1 < lion.ratio.high
    assert lion.verdict == "undecided"
    said = sentences(mixed)[-1]
    assert "On these 10 tasks lion's mean loss is" in said
    assert "% lower than adamw's; the interval over tasks (-" in said
    assert "leaves open whether this holds on other" in said
    assert "better" not in said
    assert "| undecided |" in markdown(evaluation_report(mixed))


def test_two_tasks_that_agree_are_too_few_to_speak_for_others() -> None:
    """Though their bootstrap has nothing to draw that disagrees."""
    two = suite({"lion": 0.5}, {"lion": 0.8})
    assert two.standings[0].ratio.high < 1
    assert two.standings[0].verdict == "undecided"
    assert "too few or differ too much to show" in sentences(two)[-1]


def test_many_contenders_are_corrected_for_over_tasks() -> None:
    """One of forty without any effect looks better over its tasks; none is said to be."""
    rng = np.random.default_rng(2)
    drawn = [{f"p{n}": math.exp(0.3 * rng.normal()) for n in range(40)} for _ in range(8)]
    found = [one for one in suite(*drawn).standings if one.program != "adamw"]
    assert any(one.ratio.high < 1 or one.ratio.low > 1 for one in found)
    assert {one.verdict for one in found} == {"undecided"}


def test_what_is_not_real_on_these_tasks_is_not_said_of_others() -> None:
    noisy = suite(*({"lion": 0.98} for _ in range(4)), noise=0.2)
    assert noisy.standings[0].verdict == "undecided"
    assert "lion's mean loss is not shown to differ from adamw's" in sentences(noisy)[-1]


def test_a_win_that_diverged_now_and_then_says_so() -> None:
    losses = [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, math.inf]
    found = compare([made_up(lion=losses, adamw=[1.0] * 12)], ["adamw"], 1)
    assert "lion is better than adamw, and diverged on 1/12 seeds" in sentences(found)[0]


@pytest.mark.parametrize("suffix", [".md", ".json", ".svg", ".png"])
def test_reports_are_written_whole(several: Evaluation, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"report{suffix}"
    files.check(path)
    files.write(several, path)
    content = path.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
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
