"""The funnel: successive halving of the best programs of runs at 10x and 100x the work.

Only programs whose 95% interval lies above the tuned baseline advance to the next stage, those with
the best means first (Chen et al. 2023, section 2.3). In each stage, the learning rate and weight
decay of all entrants and of the baseline are tuned with the same number of trials. The measurements
that select the winner are too optimistic, so the winner and the baseline are measured again on
fresh seeds for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from evosearch.config import FunnelConfig
from evosearch.errors import UsageError
from evosearch.evaluation.evaluation import Progress, evaluate
from evosearch.evaluation.results import MIN_DEVIATION, Evaluation, TaskReport
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
"""The work of the tasks of each stage, relative to the search tasks."""


@dataclass(frozen=True)
class Entrant:
    """A program that is measured in a stage of the funnel.

    Attributes:
        name: run and id of the program, as `runs/NAME#ID`.
        source: text of the program.
        fitness: mean and 95% interval over seeds of the mean over tasks of
            min(score, `largest_gain`). The tuned baseline has fitness 0.
        per_task: for each task, the mean score over seeds.
    """

    name: str
    source: str
    fitness: Interval
    per_task: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the entrant as JSON."""
        mean, low, high = self.fitness
        numbers = {"fitness": mean, "fitness_low": low, "fitness_high": high}
        return {"name": self.name, **numbers, "per_task": self.per_task, "source": self.source}


@dataclass(frozen=True)
class Stage:
    """One stage of the funnel.

    Attributes:
        scale: work of the stage, relative to the search tasks.
        seeds: number of fresh seeds of each entrant.
        entrants: all programs measured in the stage. Programs whose lower bound is above the
            baseline come first; within each group, a higher mean comes first.
        promoted: number of entrants that advanced or won.
    """

    scale: str
    seeds: int
    entrants: tuple[Entrant, ...]
    promoted: int

    def document(self) -> dict[str, Any]:
        """Return the stage as JSON."""
        return {
            "scale": self.scale,
            "seeds": self.seeds,
            "through": self.promoted,
            "entrants": [entrant.document() for entrant in self.entrants],
        }


@dataclass(frozen=True)
class FunnelResult:
    """The result of a funnel.

    Attributes:
        stages: stages in order; fewer than `SCALES` if no program advanced.
        winner: the winner, measured at the last scale on fresh seeds; None if no program won.
    """

    stages: tuple[Stage, ...]
    winner: Entrant | None

    def document(self) -> dict[str, Any]:
        """Return the funnel as JSON; `verdict` is the winner's verdict on fresh seeds."""
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
) -> FunnelResult:
    """Measure the best distinct programs of `runs` in stages of increasing work.

    Args:
        runs: the runs; all have the same search tasks.
        config: number of entrants and seeds of each stage; None for the first run's settings.
        to: scale of the last stage, whose best program is the winner; one of `SCALES`.
        workers: number of concurrent trainings, which does not affect results; None for one per
            core.
        timeout: maximum seconds of a training; see `evosearch.measuring.job_runner.open_backend`.
        notify: called with a message for each failed training, which counts as diverged.
        progress: called with the state of the funnel.
        ledger: stores finished trainings, which are not repeated; None to store nothing.

    Raises:
        UsageError: there is no run, the runs have different tasks, or a scale has no tasks.
        EvosearchError: the baseline diverges on a task.
    """
    if not runs:
        raise UsageError("no run given; name one or more run directories")
    first = runs[0].config
    for run in runs[1:]:
        if run.config.tasks != first.tasks:
            raise UsageError(
                f"{run.directory} searched on {', '.join(run.config.tasks)} and {runs[0].directory}"
                f" on {', '.join(first.tasks)}; give runs with the same tasks"
            )
    config = config or first.funnel
    largest_gain = config.largest_gain or first.measurement.largest_gain
    remaining = candidates(runs, config.entrants[0])
    if not remaining:
        raise UsageError(
            f"{runs[0].directory} has no program with two measurements yet; search further: "
            f"`evosearch resume {runs[0].directory}`"
        )
    stages: list[Stage] = []
    scales = SCALES[: SCALES.index(to) + 1]
    for scale, max_entrants, seeds in zip(scales, config.entrants, config.seeds, strict=False):
        tasks = counterparts(first.tasks, scale)
        if not tasks:
            raise UsageError(
                f"none of {', '.join(first.tasks)} has a validation task at {scale} the work; "
                "`evosearch tasks` lists them"
            )
        if config.precision == "bfloat16":
            tasks = [f"{task}{BFLOAT16}" for task in tasks]
        remaining = dict(list(remaining.items())[:max_entrants])

        def measure(
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

        entrants = _entrants(measure(remaining, Stream.VALIDATE, seeds), largest_gain)
        entrants.sort(key=_rank, reverse=True)
        better_than_baseline = [entrant for entrant in entrants if entrant.fitness.low > 0]
        is_last = scale == to
        promoted = better_than_baseline[:1] if is_last else better_than_baseline
        stages.append(Stage(scale, seeds, tuple(entrants), len(promoted)))
        remaining = {entrant.name: remaining[entrant.name] for entrant in promoted}
        if not remaining:
            return FunnelResult(tuple(stages), None)
    confirmed = measure(remaining, Stream.CONFIRM, config.confirm_seeds)
    return FunnelResult(tuple(stages), _entrants(confirmed, largest_gain)[0])


def _rank(entrant: Entrant) -> tuple[bool, float]:
    """Return a sort key: entrants above the baseline are best, then entrants with higher means."""
    return entrant.fitness.low > 0, entrant.fitness.mean


def candidates(runs: Sequence[Run], count: int) -> dict[str, Program]:
    """Return the best `count` programs of several runs by the lower bound of fitness.

    Programs of a run have the same structure if they differ only in constants, or in dead or
    redundant statements. Only the best program of each structure is taken, unless there are fewer
    structures than `count`. The programs are taken from the runs in turn, so that the best program
    of each run is among the candidates.
    """
    rankings = [[(run, entry) for entry in run.top(None) if entry.seeds > 1] for run in runs]
    in_turn = [pair for turn in zip_longest(*rankings) for pair in turn if pair]
    best_of_structures: dict[str, Program] = {}
    others: dict[str, Program] = {}
    structures: set[tuple[Run, str]] = set()
    for run, entry in in_turn:
        if len(best_of_structures) == count:
            break
        program = parse(entry.source)
        structure = (run, _without_constants(program))
        group = others if structure in structures else best_of_structures
        group[f"{run.directory}#{entry.id}"] = program
        structures.add(structure)
    return dict([*best_of_structures.items(), *others.items()][:count])


def _without_constants(program: Program) -> str:
    """Return the statements of the simplified program, with canonical names and without numbers."""
    lines = []
    for target, op, args in canonical(simplify(program).program).statements:
        names = ["#" if isinstance(arg, float) else arg for arg in args]
        lines.append(" ".join([target, op, *names]))
    return "\n".join(lines)


def _entrants(evaluation: Evaluation, largest_gain: float) -> list[Entrant]:
    """Return all contenders of the evaluation except the baseline, in the evaluation's order."""
    entrants = []
    for result in evaluation.tasks[0].results:
        if result.program == BASELINE:
            continue
        scores = {report.task: _scores(report, result.program) for report in evaluation.tasks}
        means_over_tasks = [
            bounded_mean(dict(zip(scores, scores_of_seed, strict=True)), largest_gain)
            for scores_of_seed in zip(*scores.values(), strict=True)
        ]
        fitness = interval(means_over_tasks, MIN_DEVIATION)
        per_task = {task: sum(values) / len(values) for task, values in scores.items()}
        entrants.append(Entrant(result.program, result.source, fitness, per_task))
    return entrants


def _scores(report: TaskReport, program: str) -> list[float]:
    """Return a program's score on each seed of a task."""
    losses = {result.program: result.losses for result in report.results}
    pairs = zip(losses[program], losses[BASELINE], strict=True)
    return [-log_ratio(loss, baseline_loss) for loss, baseline_loss in pairs]
