"""Tests of `evaluate`: equal tuning, paired seeds, verdicts, and the JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from evosearch.errors import EvosearchError, UsageError
from evosearch.evaluation.comparison import compare
from evosearch.evaluation.evaluation import evaluate
from evosearch.evaluation.results import Evaluation, Result, Standing, TaskReport
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
"""A program whose update is NaN."""
STUCK = parse("def train(w, g, lr):\n    u = g * 0.0\n    return u\n")
"""A program whose update is zero."""
TASK = "digits-mlp"


@pytest.fixture(scope="module")
def on_one_task() -> Evaluation:
    """The evaluation of five contenders on one task with 15 steps."""
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


def result_of(evaluation: Evaluation, program: str, task_index: int = 0) -> Result:
    """Return the result of a contender on one task of an evaluation."""
    results = evaluation.tasks[task_index].results
    return next(result for result in results if result.program == program)


def standing_of(evaluation: Evaluation, program: str) -> Standing:
    """Return the standing of a contender over all tasks of an evaluation."""
    return next(standing for standing in evaluation.standings if standing.program == program)


def test_the_document_of_one_task_has_the_documented_fields(on_one_task: Evaluation) -> None:
    document = on_one_task.document()
    assert list(document) == ["task", "split", "metric", "steps", "results"]
    assert (document["task"], document["split"], document["steps"]) == (TASK, "search", 15)
    programs = [result["program"] for result in document["results"]]
    assert programs == ["copy", "stuck", "diverges", "adamw", "momentum"]
    result = document["results"][0]
    assert list(result) == [
        "program", "lr", "decay", "lr_at_edge", "mean", "low", "high", "seeds", "scores",
        "diverged", "trials", "curve", "update_rms", "sharpness", "versus", "source",
    ]  # fmt: skip
    assert list(result["versus"]) == ["adamw", "momentum"]
    assert set(result["versus"]["adamw"]) == {"difference", "low", "high", "p", "p_holm", "real"}
    assert result["low"] < result["mean"] < result["high"]
    assert result["mean"] == pytest.approx(np.mean(result["scores"]))
    assert result["seeds"] == len(result["scores"]) == 4
    assert parse(result["source"]) == zoo.load("adamw")


def test_the_document_is_valid_json_without_infinities(on_one_task: Evaluation) -> None:
    document = json.loads(json.dumps(on_one_task.document(), allow_nan=False))
    diverged = document["results"][2]
    assert diverged["mean"] is diverged["low"] is diverged["high"] is None
    assert diverged["scores"] == [None] * 4
    assert {trial["loss"] for trial in diverged["trials"]} == {None}


def test_all_contenders_get_the_same_number_of_trials(on_one_task: Evaluation) -> None:
    assert len({len(result.trials) for result in on_one_task.tasks[0].results}) == 1


def test_the_tuned_learning_rates_are_not_at_the_ends_of_the_grid(on_one_task: Evaluation) -> None:
    for name in ("adamw", "momentum"):
        result = result_of(on_one_task, name)
        assert min(result.trials).lr < result.lr < max(result.trials).lr


def test_a_program_ties_with_a_copy_of_itself(on_one_task: Evaluation) -> None:
    difference = result_of(on_one_task, "copy").versus["adamw"]
    assert difference.interval.mean == 0
    assert difference.p == 1
    assert difference.verdict == "tie"
    assert result_of(on_one_task, "copy").losses == result_of(on_one_task, "adamw").losses


def test_a_program_that_never_changes_the_weights_is_significantly_worse(
    on_one_task: Evaluation,
) -> None:
    assert result_of(on_one_task, "stuck").versus["adamw"].verdict == "worse"


def test_a_tuned_learning_rate_at_an_end_of_the_grid_is_reported(on_one_task: Evaluation) -> None:
    """The loss of `stuck` does not depend on the rate, and of equal rates the smallest is used."""
    assert result_of(on_one_task, "stuck").at_edge
    assert not result_of(on_one_task, "copy").at_edge
    assert "at the edge of the grid for stuck (" in sentences(on_one_task)[0]


def test_a_program_that_always_diverges_has_the_worst_difference(on_one_task: Evaluation) -> None:
    result = result_of(on_one_task, "diverges")
    assert result.diverged == 4
    assert result.loss is None
    assert result.versus["adamw"].interval.mean == pytest.approx(math.log(4))
    assert result.versus["adamw"].verdict == "worse"


def test_references_after_the_first_are_compared_with_the_first(on_one_task: Evaluation) -> None:
    assert not result_of(on_one_task, "adamw").versus
    assert list(result_of(on_one_task, "momentum").versus) == ["adamw"]
    # Three programs with two references each, and the second reference with the first.
    assert on_one_task.comparisons == 3 * 2 + 1


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    def document(workers: int) -> dict[str, Any]:
        return evaluate(
            [zoo.load("sgd")], TASK, seeds=2, steps=4, tuning_seeds=1, workers=workers
        ).document()

    assert document(1) == document(3)


@pytest.fixture(scope="module")
def on_two_tasks() -> Evaluation:
    """The evaluation of SGD and AdamW on two tasks, of which `quadratic` is deterministic."""
    return evaluate(
        [zoo.load("sgd")],
        ["quadratic", TASK],
        against=["adamw"],
        seeds=3,
        steps=10,
        tuning_seeds=1,
        workers=2,
    )


def test_over_several_tasks_the_fitness_is_the_mean_paired_log_ratio(
    on_two_tasks: Evaluation,
) -> None:
    sgd_losses, adamw_losses = (
        np.array([result_of(on_two_tasks, name, task).losses for task in range(2)])
        for name in ("sgd", "adamw")
    )
    # Shape [tasks, seeds].
    scores = np.clip(np.log(adamw_losses / sgd_losses), -math.log(4), math.log(4))
    sgd, adamw = on_two_tasks.overall
    assert (sgd.program, adamw.program) == ("sgd", "adamw")
    assert sgd.interval.mean == pytest.approx(np.mean(scores))
    assert sgd.interval.low < sgd.interval.mean < sgd.interval.high
    assert sgd.per_task == pytest.approx({"quadratic": scores[0].mean(), TASK: scores[1].mean()})
    assert adamw.interval == (0, 0, 0)


def test_the_document_of_several_tasks_has_the_documented_fields(on_two_tasks: Evaluation) -> None:
    document = json.loads(json.dumps(on_two_tasks.document(), allow_nan=False))
    assert list(document) == ["tasks", "overall", "standings", "reference"]
    assert [report["task"] for report in document["tasks"]] == ["quadratic", TASK]
    assert set(document["overall"][0]) >= {"program", "fitness", "low", "high", "per_task"}
    assert set(document["standings"][0]) == {
        "program", "wins", "losses", "ties", "mean_rank", "ratio", "ratio_low", "ratio_high",
        "on_these_tasks", "p_holm", "verdict",
    }  # fmt: skip
    assert document["reference"] == "adamw"


def test_no_two_seeds_of_any_streams_have_the_same_random_key() -> None:
    seeds = [Seed(stream, number) for stream in Stream for number in range(50)]
    keys = {tuple(jax.random.key_data(seed_key(0, seed)).tolist()) for seed in seeds}
    assert len(keys) == len(seeds)


def test_the_reported_progress_never_decreases_and_ends_at_the_total() -> None:
    calls: list[tuple[str, int, int]] = []
    evaluate(
        [zoo.load("sgd")],
        "quadratic",
        seeds=2,
        steps=3,
        tuning_seeds=1,
        progress=lambda text, done, total: calls.append((text, done, total)),
    )
    texts, counts_done, totals = zip(*calls, strict=True)
    assert texts[0] == "quadratic: tuning"
    assert list(counts_done) == sorted(counts_done)
    assert counts_done[-1] == totals[-1] > 0


def test_a_reference_that_always_diverges_is_an_error() -> None:
    with pytest.raises(EvosearchError, match="reference 'broken' diverges on 'quadratic'"):
        evaluate({}, "quadratic", against={"broken": DIVERGES}, seeds=2, tuning_seeds=1, steps=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_an_invalid_argument_is_an_error_before_any_training(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        evaluate({"sgd": zoo.load("sgd")}, **{"task": "quadratic", **arguments})
    assert message in str(caught.value)


def simulated_report(task: str = "simulated", **losses: Sequence[float]) -> TaskReport:
    """Return a report on one task with the given losses of each contender, one for each seed."""
    results = [Result(name, "", 1.0, {}, tuple(values)) for name, values in losses.items()]
    return TaskReport(task, "held-out", "nats", 10, tuple(results))


def test_a_chance_difference_among_many_contenders_is_not_significant() -> None:
    """Of forty contenders without any effect, some have p < 0.05 before Holm's correction."""
    rng = np.random.default_rng(1)
    contenders = {f"p{number}": list(np.exp(0.1 * rng.normal(size=8))) for number in range(40)}
    evaluation = compare([simulated_report(reference=[1.0] * 8, **contenders)], ["reference"], 3)
    differences = [
        difference
        for result in evaluation.tasks[0].results
        for difference in result.versus.values()
    ]
    assert min(difference.p for difference in differences) < 0.05
    assert not any(difference.is_significant for difference in differences)


def test_a_small_paired_difference_is_significant_even_if_the_intervals_overlap() -> None:
    reference_losses = [0.5, 1.0, 2.0, 3.0, 4.0]
    lower_losses = [0.97 * loss for loss in reference_losses]
    report = simulated_report(better=lower_losses, reference=reference_losses)
    evaluation = compare([report], ["reference"], 3)
    better, reference = result_of(evaluation, "better"), result_of(evaluation, "reference")
    assert better.versus["reference"].verdict == "better"
    assert better.loss is not None
    assert reference.loss is not None
    assert better.loss.high > reference.loss.low


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal(
    on_one_task: Evaluation, on_two_tasks: Evaluation, width: int
) -> None:
    for evaluation in (on_one_task, on_two_tasks):
        console = Console(width=width)
        with console.capture() as capture:
            show(evaluation_report(evaluation), console)
        assert max(map(len, capture.get().splitlines())) <= width
        for result in evaluation.tasks[0].results:
            for difference in result.versus.values():
                assert difference.verdict in capture.get()


def test_sentences_state_the_verdicts(on_one_task: Evaluation, on_two_tasks: Evaluation) -> None:
    assert "copy is not shown to differ from adamw" in sentences(on_one_task)[0]
    assert "diverges diverged on every seed" in sentences(on_one_task)[0]
    assert sentences(on_two_tasks)[-1].startswith(
        ("Over tasks, sgd is ", "On these 2 tasks sgd's ")
    )


def test_trainings_in_the_ledger_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()

    def evaluate_sgd(steps: int) -> dict[str, Any]:
        evaluation = evaluate(
            [zoo.load("sgd")],
            TASK,
            against=["adamw"],
            seeds=2,
            steps=steps,
            tuning_seeds=1,
            workers=2,
            ledger=ledger,
        )
        return evaluation.document()

    first_document = evaluate_sgd(steps=4)

    def fail_to_train(trainer: Trainer, job: Job) -> JobResult:
        raise AssertionError(f"trained again: {job}")

    monkeypatch.setattr(Trainer, "train", fail_to_train)
    assert evaluate_sgd(steps=4) == first_document
    with pytest.raises(AssertionError, match="trained again"):
        evaluate_sgd(steps=5)


def test_weight_decay_is_tuned_for_all_contenders() -> None:
    """The optimum of the quadratic is zero, which `stuck` approaches only by weight decay."""
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
    results = evaluation.tasks[0].results
    # All have the same sharpness, because the Hessian of the quadratic is constant.
    sharpness = [result.sharpness for result in results]
    assert sharpness == pytest.approx([sharpness[0]] * len(sharpness))
    stuck = result_of(evaluation, "stuck")
    assert stuck.decay >= 3.0
    assert stuck.loss is not None
    assert stuck.loss.mean < 0.01
    assert len({len(result.trials) for result in results}) == 1


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
    result = result_of(evaluation, name)
    assert result.diverged == 0
    assert np.isfinite(result.curve).all()
    initial_loss = result.curve[0]
    assert max(result.losses) < 2.0 < initial_loss


def test_sgd_of_optax_at_ten_times_the_multiplier_is_the_zoos_sgd() -> None:
    """The learning rate at multiplier 1 is 1 for the zoo's SGD and 0.1 for SGD of optax."""
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
        {setting.lr: loss for setting, loss in result_of(evaluation, name).trials.items()}
        for name in ("optax", "zoo")
    )
    for multiplier in (0.1, 1.0):
        assert optax_losses[10 * multiplier] == pytest.approx(zoo_losses[multiplier], rel=1e-3)


def test_standings_count_wins_and_compute_ranks_and_ratios(on_two_tasks: Evaluation) -> None:
    sgd, adamw = standing_of(on_two_tasks, "sgd"), standing_of(on_two_tasks, "adamw")
    assert sgd.wins + sgd.losses + sgd.ties == 2
    assert adamw.ties == 2
    assert sgd.mean_rank + adamw.mean_rank == 1 + 2
    sgd_fitness = on_two_tasks.overall[0].interval.mean
    assert sgd.ratio.mean == pytest.approx(math.exp(-sgd_fitness))
    assert sgd.ratio.low <= sgd.ratio.mean <= sgd.ratio.high
    assert adamw.ratio == (1, 1, 1)
    assert adamw.verdict == "the reference"
    assert on_two_tasks.standings[0].ratio.mean == min(sgd.ratio.mean, 1)


def simulated_evaluation(
    losses_of_tasks: Iterable[dict[str, float]], noise: float = 0.0
) -> Evaluation:
    """Simulate an evaluation against AdamW on four seeds of each task.

    Args:
        losses_of_tasks: For each task, the loss of each contender. AdamW's loss is 1 on each task.
        noise: Standard deviation of the logarithm of a loss over the seeds.
    """
    rng = np.random.default_rng(0)
    reports = []
    for task_index, losses in enumerate(losses_of_tasks):
        contenders = {
            name: list(loss * np.exp(noise * rng.normal(size=4))) for name, loss in losses.items()
        }
        reports.append(simulated_report(f"t{task_index}", **contenders, adamw=[1.0] * 4))
    return compare(reports, ["adamw"], 1)


def test_the_bootstrap_interval_is_wide_if_the_tasks_differ() -> None:
    similar = simulated_evaluation([{"lion": 0.9}] * 4)
    assert similar.standings[0].ratio == pytest.approx((0.9, 0.9, 0.9))
    different = simulated_evaluation({"lion": loss} for loss in (0.5, 0.5, 2.0, 2.0))
    ratio = standing_of(different, "lion").ratio
    assert ratio.mean == pytest.approx(1.0)
    assert ratio.low == pytest.approx(0.5, rel=0.1)
    assert ratio.high == pytest.approx(2.0, rel=0.1)


def test_a_verdict_on_other_tasks_requires_that_tasks_agree() -> None:
    """Without noise every difference is significant on the measured tasks."""
    better = simulated_evaluation({"lion": 0.9 + 0.01 * n} for n in range(8))
    assert standing_of(better, "lion").verdict == "better"
    assert sentences(better)[-1].startswith("Over tasks, lion is better than adamw: its mean")
    worse = simulated_evaluation({"lion": 1.1 + 0.01 * n} for n in range(8))
    assert standing_of(worse, "lion").verdict == "worse"
    # Losses of `evosearch eval lion --landscapes` relative to AdamW's.
    losses = (0.3, 0.3, 0.3, 0.9, 1.1, 1.5, 1.5, 1.6, 1.8, 1.95)
    mixed = simulated_evaluation({"lion": loss} for loss in losses)
    lion = standing_of(mixed, "lion")
    assert mixed.overall[0].difference is not None
    assert mixed.overall[0].difference.verdict == lion.verdict_on_measured_tasks == "better"
    assert lion.ratio.low < 1 < lion.ratio.high
    assert lion.verdict == "undecided"
    text = sentences(mixed)[-1]
    assert "On these 10 tasks lion's mean loss is" in text
    assert "% lower than adamw's; the interval over tasks (-" in text
    assert "leaves open whether this holds on other" in text
    assert "better" not in text
    assert "| undecided |" in markdown(evaluation_report(mixed))


def test_two_tasks_are_too_few_for_a_verdict_over_tasks() -> None:
    """The verdict is undecided even if the bootstrap interval of the ratio excludes 1."""
    evaluation = simulated_evaluation([{"lion": 0.5}, {"lion": 0.8}])
    assert evaluation.standings[0].ratio.high < 1
    assert evaluation.standings[0].verdict == "undecided"
    assert "too few or differ too much to show" in sentences(evaluation)[-1]


def test_verdicts_over_tasks_are_corrected_for_many_contenders() -> None:
    """Of forty contenders without any effect, some interval excludes 1; all are undecided."""
    rng = np.random.default_rng(2)
    losses_of_tasks = [
        {f"p{number}": math.exp(0.3 * rng.normal()) for number in range(40)} for _ in range(8)
    ]
    evaluation = simulated_evaluation(losses_of_tasks)
    standings = [each for each in evaluation.standings if each.program != "adamw"]
    assert any(each.ratio.high < 1 or each.ratio.low > 1 for each in standings)
    assert {each.verdict for each in standings} == {"undecided"}


def test_a_difference_that_is_not_significant_on_the_tasks_is_undecided() -> None:
    evaluation = simulated_evaluation([{"lion": 0.98}] * 4, noise=0.2)
    assert evaluation.standings[0].verdict == "undecided"
    assert "lion's mean loss is not shown to differ from adamw's" in sentences(evaluation)[-1]


def test_the_sentence_about_a_better_program_reports_its_diverged_seeds() -> None:
    losses = [0.3] * 11 + [math.inf]
    evaluation = compare([simulated_report(lion=losses, adamw=[1.0] * 12)], ["adamw"], 1)
    assert "lion is better than adamw, and diverged on 1/12 seeds" in sentences(evaluation)[0]


@pytest.mark.parametrize("suffix", [".md", ".json", ".svg", ".png"])
def test_reports_are_written_without_temporary_files(
    on_two_tasks: Evaluation, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"report{suffix}"
    files.check(path)
    files.write(on_two_tasks, path)
    content = path.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
        return
    for name in (b"sgd", b"adamw", TASK.encode()):
        assert name in content


@pytest.mark.parametrize(
    ("name", "message"), [("report.txt", "must be one of .md"), ("no/where.md", "not a directory")]
)
def test_a_path_at_which_no_report_can_be_written_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        files.check(tmp_path / name)
