"""The funnel: the best programs of runs on 10x, then 100x the work, and the winner's evidence.

Only what surely beats the tuned baseline goes on (Chen et al. 2023, section 2.3), best mean first.
Of every entrant of a stage, and of the baseline, the learning rate and the weight decay are tuned
alike. Who goes on is chosen by seeds that are then spent: the winner is measured anew, beside the
baseline, on seeds that chose nothing, and that is what is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from evosearch.config import FunnelConfig
from evosearch.errors import UsageError
from evosearch.evaluation.evaluation import Progress, evaluate
from evosearch.evaluation.results import ROUNDING, Evaluation
from evosearch.fixed import VALIDATION_DECAYS, VALIDATION_RATES, VALIDATION_RESOLUTION
from evosearch.measuring.ledger import Ledger
from evosearch.measuring.scorer import BASELINE
from evosearch.runs.run import Run
from evosearch.runs.validations import counterparts
from evosearch.seeds import Stream
from evosearch.statistics import Interval, bounded_mean, interval, log_ratio
from evosearch.verdicts import fitness_verdict
from primitives import Program, parse, simplify, zoo
from primitives.explain.names import canonical
from proxies.precision import SUFFIX as BFLOAT16

SCALES = ("10x", "100x")
"""The work of each stage, relative to a search's tasks."""


@dataclass(frozen=True)
class Entrant:
    """A program that a stage measured.

    Attributes:
        name: `runs/NAME#ID`.
        source: its text.
        fitness: mean and 95% interval over seeds of the bounded mean over tasks; 0 is the tuned
            baseline.
        per_task: the mean over seeds for each task.
    """

    name: str
    source: str
    fitness: Interval
    per_task: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """The entrant as JSON."""
        mean, low, high = self.fitness
        numbers = {"fitness": mean, "fitness_low": low, "fitness_high": high}
        return {"name": self.name, **numbers, "per_task": self.per_task, "source": self.source}


@dataclass(frozen=True)
class Stage:
    """One stage: those that beat the baseline by their lower bound first, the best mean foremost.

    Attributes:
        scale: its work, relative to the search's tasks.
        seeds: the fresh seeds of each entrant.
        entrants: all that were measured.
        through: how many went on, or won.
    """

    scale: str
    seeds: int
    entrants: tuple[Entrant, ...]
    through: int

    def document(self) -> dict[str, Any]:
        """The stage as JSON."""
        return {
            "scale": self.scale,
            "seeds": self.seeds,
            "through": self.through,
            "entrants": [one.document() for one in self.entrants],
        }


@dataclass(frozen=True)
class Funnelled:
    """What came through.

    Attributes:
        stages: in order; fewer than `SCALES` if nothing was left.
        winner: as measured at the last scale on seeds that chose nothing; None if no program beat
            the baseline up to there.
    """

    stages: tuple[Stage, ...]
    winner: Entrant | None

    def document(self) -> dict[str, Any]:
        """The funnel as JSON; `verdict` is what the winner's fresh seeds say of it."""
        return {
            "stages": [stage.document() for stage in self.stages],
            "winner": self.winner and self.winner.document(),
            "verdict": self.winner and str(fitness_verdict(self.winner.fitness)),
        }


def funnel(
    runs: Sequence[Run],
    *,
    config: FunnelConfig | None = None,
    to: str = SCALES[-1],
    workers: int | None = None,
    timeout: float | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda text, done, total: None,
    ledger: Ledger | None = None,
) -> Funnelled:
    """Takes the best distinct programs of `runs` through the stages.

    Args:
        runs: whose tasks' counterparts are trained; all of them searched on the same tasks.
        config: how many enter and on how many seeds; None for the first run's.
        to: the scale of the last stage, at which the winner is named.
        workers: trainings at a time; None for one per core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each training that failed; it counts as diverged.
        progress: told how far it is.
        ledger: where trainings are kept.

    Raises:
        UsageError: no runs, runs of different tasks, or tasks without counterparts.
        EvosearchError: the baseline diverges on a task.
    """
    if not runs:
        raise UsageError("no run to take programs from; give one or more directories")
    first = runs[0].config
    for run in runs[1:]:
        if run.config.tasks != first.tasks:
            raise UsageError(
                f"{run.directory} searched on {', '.join(run.config.tasks)} and {runs[0].directory}"
                f" on {', '.join(first.tasks)}; take runs through the funnel that share their tasks"
            )
    config = config or first.funnel
    bound = config.largest_gain or first.measurement.largest_gain
    left = candidates(runs, config.entrants[0])
    if not left:
        raise UsageError(
            f"{runs[0].directory} has no program with two measurements yet; search further: "
            f"`evosearch resume {runs[0].directory}`"
        )
    stages: list[Stage] = []
    scales = SCALES[: SCALES.index(to) + 1]
    for scale, most, seeds in zip(scales, config.entrants, config.seeds, strict=False):
        tasks = counterparts(first.tasks, scale)
        if not tasks:
            raise UsageError(
                f"none of {', '.join(first.tasks)} has a validation task at {scale} the work; "
                "`evosearch tasks` lists them"
            )
        if config.precision == "bfloat16":
            tasks = [f"{task}{BFLOAT16}" for task in tasks]
        left = dict(list(left.items())[:most])

        def measured(
            programs: Mapping[str, Program], stream: Stream, seeds: int, tasks: list[str] = tasks
        ) -> Evaluation:
            return evaluate(
                programs,
                tasks,
                against={BASELINE: zoo.load(BASELINE)},
                seeds=seeds,
                tuning_seeds=config.tuning_seeds,
                lrs=VALIDATION_RATES,
                decays=VALIDATION_DECAYS,
                resolution=VALIDATION_RESOLUTION,
                seed=first.seed,
                streams=(Stream.VALIDATE_TUNE, stream),
                workers=workers,
                timeout=timeout,
                notify=notify,
                progress=progress,
                ledger=ledger,
            )

        found = _entrants(measured(left, Stream.VALIDATE, seeds), bound)
        found.sort(key=lambda one: (one.fitness.low > 0, one.fitness.mean), reverse=True)
        ahead = [one for one in found if one.fitness.low > 0]
        last = scale == to
        through = ahead[:1] if last else ahead
        stages.append(Stage(scale, seeds, tuple(found), len(through)))
        left = {one.name: left[one.name] for one in through}
        if not left:
            return Funnelled(tuple(stages), None)
    confirmed = measured(left, Stream.CONFIRM, config.confirm_seeds)
    return Funnelled(tuple(stages), _entrants(confirmed, bound)[0])


def candidates(runs: Sequence[Run], count: int) -> dict[str, Program]:
    """The best `count` programs of several runs by the lower bound of fitness.

    Programs of a run that differ in constants or in dead and redundant statements are one rule, of
    which the best enters, and the others only where there are fewer rules than places. The runs
    take turns, so that each has its best among them.
    """
    rows = [[(run, one) for one in run.top(None) if one.seeds > 1] for run in runs]
    turns = [pair for of_one_turn in zip_longest(*rows) for pair in of_one_turn if pair]
    best_of_rules: dict[str, Program] = {}
    others: dict[str, Program] = {}
    rules: set[tuple[Run, str]] = set()
    for run, one in turns:
        if len(best_of_rules) == count:
            break
        program = parse(one.source)
        rule = (run, _without_constants(program))
        found = others if rule in rules else best_of_rules
        found[f"{run.directory}#{one.id}"] = program
        rules.add(rule)
    return dict([*best_of_rules.items(), *others.items()][:count])


def _without_constants(program: Program) -> str:
    """The simplified program under canonical names, with a mark for every number."""
    body = canonical(simplify(program).program)
    return "\n".join(
        " ".join([target, op, *("#" if isinstance(arg, float) else arg for arg in args)])
        for target, op, args in body.statements
    )


def _entrants(evaluation: Evaluation, bound: float) -> list[Entrant]:
    """Everything in the evaluation but the baseline, in its order."""
    by_task = {
        report.task: {result.program: result.losses for result in report.results}
        for report in evaluation.tasks
    }
    found = []
    for result in evaluation.tasks[0].results:
        if result.program == BASELINE:
            continue
        scores = {
            task: [
                -log_ratio(loss, other)
                for loss, other in zip(losses[result.program], losses[BASELINE], strict=True)
            ]
            for task, losses in by_task.items()
        }
        by_seed = [
            bounded_mean(dict(zip(scores, of_seed, strict=True)), bound)
            for of_seed in zip(*scores.values(), strict=True)
        ]
        per_task = {task: sum(of_task) / len(of_task) for task, of_task in scores.items()}
        found.append(Entrant(result.program, result.source, interval(by_seed, ROUNDING), per_task))
    return found
