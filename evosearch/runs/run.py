"""A run on disk: making one, reading what it found."""

from __future__ import annotations

import itertools
import json
import time
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evosearch.config import SAME_SEARCH, Config, make_config, read_toml
from evosearch.errors import EvosearchError, UsageError, told
from evosearch.evolution.records import Scores, evidence, fitness, is_confirmed
from evosearch.files import read_bytes, write_text
from evosearch.runs.activity import read_activity
from evosearch.runs.cost import Cost, running_cost
from evosearch.runs.database import create, is_searched
from evosearch.runs.documents import read_document, write_document
from evosearch.runs.funnel_document import FunnelDocument
from evosearch.runs.rows import (
    CHAMPIONS,
    INJECTIONS,
    MEASUREMENTS,
    NOTHING_YET,
    PROGRAMS,
    TESTS,
    TUNING,
    MeasurementRow,
    ProgramRow,
    TestRow,
)
from evosearch.runs.store import Store
from evosearch.runs.validations import (
    Validation,
    by_task,
    is_whole,
    validated_fitness,
)
from evosearch.seeds import Seed, Stream
from evosearch.statistics import LARGEST_SCORE
from primitives import Program, ProgramError, live, parse, state_memory

CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
FUNNEL = "funnel.json"
_LARGEST_ENVIRONMENT = 2**20


def free_directory(name: str = "search") -> Path:
    """`runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that does not exist."""
    candidates = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in candidates if not path.exists())


def make_run_directory(directory: Path, config: Config, environment: Mapping[str, Any]) -> None:
    """Writes a new run: its configuration, its environment and an empty store, which comes last.

    What is left of a run whose making was interrupted is replaced.

    Raises:
        UsageError: the directory holds a run already.
        EvosearchError: it cannot be written.
    """
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    files = {
        CONFIG: config.to_toml(),
        ENVIRONMENT: json.dumps(environment, indent=2) + "\n",
    }
    create(directory, {"created": created, "config": config.to_toml()}, files)


def read_config(directory: Path) -> Config:
    """The configuration that a run was made with.

    Raises:
        UsageError: the directory holds no run, or its configuration is damaged.
    """
    if not (directory / CONFIG).exists():
        why = f"{CONFIG} is missing" if directory.is_dir() else "there is no such directory"
        raise UsageError(f"{directory} holds no run ({why}); check the path")
    try:
        settings = read_toml(directory / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; restore it from a copy") from None
    try:
        return make_config(settings)
    except UsageError as error:
        raise UsageError(f"{directory / CONFIG}: {error}; restore it from a copy") from None


def read_environment(directory: Path) -> dict[str, Any]:
    """What `environment.json` holds; empty if it is missing or damaged, since it only informs."""
    try:
        found = json.loads(read_bytes(directory / ENVIRONMENT, _LARGEST_ENVIRONMENT))
    except (UsageError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_config(store: Store, config: Config) -> None:
    """Whether `config` is what the run was made with, but for what may change.

    Every figure depends on it, and a search under other settings is another search.

    Raises:
        UsageError: it is not; says which settings differ.
    """
    text = store.meta("config")
    if text is None:  # a run from before this was kept
        return
    try:
        made = make_config(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UsageError, RecursionError, ValueError) as error:
        raise EvosearchError(
            f"{store.path} is damaged: it does not hold the run's configuration ({told(error)}); "
            "restore it from a copy"
        ) from None
    changed = [
        name
        for name in sorted(Config.model_fields.keys() - SAME_SEARCH)
        if getattr(made, name) != getattr(config, name)
    ]
    if changed:
        path = store.directory / CONFIG
        raise UsageError(
            f"{path} is not what the run was made with ({', '.join(changed)}); undo the change "
            f"(`evosearch check {store.directory} --repair` does), or start another run: "
            f"evosearch search {path}"
        )


def restore_config(directory: Path) -> bool:
    """Writes `config.toml` as the run was made with, if it is another now; whether it did.

    Raises:
        EvosearchError: it cannot be written.
    """
    store = Store.open(directory)
    try:
        text = store.meta("config")
        if text is None:
            return False
        try:
            check_config(store, read_config(directory))
        except UsageError:
            write_text(directory / CONFIG, text, follow=False)
            return True
        return False
    finally:
        store.close()


class Run:
    """A run directory, read; it may still be searched in by another process.

    Raises:
        UsageError: there is no run, or its configuration was changed.
        EvosearchError: its database is damaged, or of a newer version.
    """

    def __init__(self, directory: Path | str):
        self.directory = Path(directory)
        self.config = read_config(self.directory)
        self._store = Store.open(self.directory)
        check_config(self._store, self.config)
        self._store.check_complete()

    def status(self) -> dict[str, Any]:
        """Counts, speed and the champion; the document of `evosearch status --json`."""
        progress = self._store.progress() or NOTHING_YET
        generated, elapsed = progress.generated, progress.elapsed_seconds
        cost = self.cost()
        is_running = is_searched(self.directory)
        return {
            "run": str(self.directory),
            "generated": generated,
            "invalid": progress.invalid,
            "cache_hits": progress.cache_hits,
            "cache_hit_rate": 1 - progress.evaluated / generated if generated else 0.0,
            "evaluated": progress.evaluated,
            "redundant_fraction": (
                1 - progress.live_statements / progress.statements if progress.statements else 0.0
            ),
            "measurements": progress.measurements,
            "trainings": cost.trainings,
            "weight_updates": cost.updates,
            "programs_per_second": generated / elapsed if elapsed else 0.0,
            "elapsed_seconds": elapsed,
            "best": self.best(),
            "validation": self._last_validation(),
            "funnel": self._outcome_of_funnel(),
            "stop_reason": None if is_running else progress.stop_reason,
            "running": is_running,
            "workers": read_activity(self.directory) if is_running else [],
        }

    def best(self) -> dict[str, Any] | None:
        """The champion, as in `top`; None before the first measurement."""
        rows = self._store.select(CHAMPIONS, "order by number desc limit 1")
        return self.measured(rows[0].key) if rows else None

    def _last_validation(self) -> dict[str, Any] | None:
        """The champion's on ten times the work; None if it had none, or not yet."""
        last = self._store.largest(CHAMPIONS, "number")
        return None if last is None else self.validations().get(last)

    def _outcome_of_funnel(self) -> dict[str, Any] | None:
        """The funnel's winner, null if nothing came through; None if there was no funnel."""
        document = self.funnel()
        return None if document is None else {"winner": document["winner"]}

    def top(self, n: int | None = 10, *, pareto: bool = False) -> list[dict[str, Any]]:
        """The best programs by the lower bound of fitness, then id.

        With `pareto` only those that no other beats in fitness (lower bound), live statements and
        state memory alike.
        """
        found = self._candidates()
        if pareto:
            found = _front(found)
        found.sort(key=lambda one: (-one["fitness_low"], one["id"]))
        return found[:n]

    def program(self, number: int) -> Program:
        """A generated program by its id.

        Raises:
            UsageError: there is none of that id.
        """
        return self._parsed(self.row(number).source)

    def row(self, number: int) -> ProgramRow:
        """What the store knows of a generated program.

        Raises:
            UsageError: there is none of that id.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(PROGRAMS, "where id = ?", number)
        ):
            last = self._store.largest(PROGRAMS, "id")
            ids = "it has none yet" if last is None else f"ids go from 0 to {last}"
            raise UsageError(f"{self.directory} has no program {number}; {ids}")
        return rows[0]

    def injected(self, number: int) -> Program:
        """A program put in by `evosearch inject`, by its number.

        Raises:
            UsageError: there is none of that number.
        """
        if not 0 <= number < 2**63 or not (
            rows := self._store.select(INJECTIONS, "where id = ?", number)
        ):
            raise UsageError(f"{self.directory} has no injected program i{number}")
        return self._parsed(rows[0].source)

    def champion(self) -> Program:
        """The champion.

        Raises:
            EvosearchError: nothing has been measured yet.
        """
        best = self.best()
        if best is None:
            raise EvosearchError(
                f"{self.directory} has no champion yet; `evosearch resume {self.directory}`"
            )
        return self._parsed(best["source"])

    def keep_funnel(self, document: Mapping[str, Any]) -> None:
        """Keeps what `evosearch.evaluation.funnel` found of this run's programs.

        Raises:
            EvosearchError: it cannot be written.
        """
        write_document(self.directory / FUNNEL, document)

    def funnel(self) -> dict[str, Any] | None:
        """What `keep_funnel` kept last; None if this run went through no funnel.

        Raises:
            EvosearchError: the file is damaged.
        """
        remedy = f"evosearch funnel {self.directory}"
        found = read_document(self.directory / FUNNEL, FunnelDocument, remedy)
        return found.model_dump() if found else None

    def winner(self) -> Program:
        """The program that came through the funnel.

        Raises:
            UsageError: there was no funnel, or nothing came through.
        """
        document = self.funnel()
        if document is None:
            raise UsageError(
                f"{self.directory} has no winner yet; `evosearch funnel {self.directory}` finds it"
            )
        if document["winner"] is None:
            raise UsageError(f"no program of {self.directory} came through the funnel")
        return parse(document["winner"]["source"])

    def measured(self, key: str) -> dict[str, Any] | None:
        """What is known of the programs with a semantic key, as `top` shows it; None if nothing."""
        found = self._candidates(key)
        return found[0] if found else None

    def tests(self) -> list[dict[str, Any]]:
        """Every test between a challenger and the champion of its time."""
        return [row._asdict() for row in self._store.select(TESTS, "order by number")]

    def rates(self) -> dict[str, float]:
        """The baseline's learning rate on each task, as far as it is tuned."""
        return self._store.rates()

    def cost(self) -> Cost:
        """What the search has cost so far."""
        return next(reversed(self._running_cost().values()), Cost())

    def champions(self) -> list[dict[str, Any]]:
        """Every champion in order, the initial program first, with what the search had cost.

        The fitness is from the seeds that confirm a champion, which decided nothing; that of the
        initial program, which nothing selected, from its search seeds. Without such seeds, as of a
        champion that was dethroned before, it is None. A champion that failed on one of these seeds
        is followed by the one before it.
        """
        after = self._running_cost()
        decided = self._test_requests()
        found: list[dict[str, Any]] = []
        before = None
        for row in self._store.select(CHAMPIONS, "order by number"):
            described = self._candidates(row.key)[:1]
            known = bool(described) and (described[0]["confirmed"] or row.number == 0)
            if row.test is not None:
                last = decided.get(row.test, 0)
            else:
                last = self._failure(before.key) if before else 0
            cost, before = after.get(last, Cost()), row
            found.append(
                {
                    "number": row.number,
                    "id": row.program,
                    "trainings": cost.trainings,
                    "weight_updates": cost.updates,
                    **{
                        name: described[0][name] if known else None
                        for name in ("fitness", "fitness_low", "fitness_high", "per_task", "seeds")
                    },
                }
            )
        return found

    def validations(self) -> dict[int, dict[str, Any]]:
        """The validation of champions, by their number; empty if there is none.

        Fitness as in `champions`, on validation tasks.
        """
        if not self._store.has_all_validations():
            raise self._unvalidated()
        by_program = self._store.validations()
        return {
            row.number: self._validated(by_program[row.program])
            for row in self._store.select(CHAMPIONS, "order by number")
            if row.program in by_program
        }

    def _running_cost(self) -> dict[int, Cost]:
        """What the search had cost after each request."""
        weights = {row.task: row.params for row in self._store.select(TUNING)}
        rows = self._store.select(MEASUREMENTS, "order by request")
        for task in {row.task for row in rows} - weights.keys():
            raise EvosearchError(
                f"{self._store.path} is damaged: the tuning of the baseline on {task} is missing; "
                f"`evosearch resume {self.directory}` makes it again"
            )
        return running_cost(rows, weights)

    def _failure(self, key: str) -> int:
        """The first request that confirms a program, and on which it failed; 0 if none is."""
        by_request: dict[int, list[MeasurementRow]] = defaultdict(list)
        confirming = "where +key = ? and stream = ? order by request"
        for row in self._store.select(MEASUREMENTS, confirming, key, Stream.CONFIRM):
            by_request[row.request].append(row)
        for request, rows in by_request.items():
            lowest = min(row.score for row in rows)
            if lowest <= -LARGEST_SCORE or len(rows) < len(self.config.tasks):
                return request
        return 0

    def _test_requests(self) -> dict[int, int]:
        """The last request of each test."""
        last: dict[int, int] = defaultdict(int)
        for row in self._store.select(MEASUREMENTS, "where stream = ?", Stream.TEST):
            last[row.seed] = max(last[row.seed], row.request)
        return {
            row.number: max((last[seed] for seed in self._seeds(row)), default=0)
            for row in self._store.select(TESTS)
        }

    def _seeds(self, test: TestRow) -> list[int]:
        try:
            return [int(seed) for seed in json.loads(test.seeds)]
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise self._damaged(f"the seeds of test {test.number}") from None

    def _seed(self, row: MeasurementRow) -> Seed:
        try:
            return Seed(Stream(row.stream), row.seed)
        except ValueError:
            raise self._damaged(f"a stream of seeds named {row.stream!r}") from None

    def _parsed(self, source: str) -> Program:
        try:
            return parse(source)
        except ProgramError as error:
            raise self._damaged(f"a program ({error})") from None

    def _unvalidated(self) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: a part of a champion's validation is missing; "
            f"`evosearch resume {self.directory}` makes it again"
        )

    def _damaged(self, what: str) -> EvosearchError:
        return EvosearchError(
            f"{self._store.path} is damaged: it does not hold {what}; "
            f"run `evosearch check {self.directory}`"
        )

    def _candidates(self, key: str | None = None) -> list[dict[str, Any]]:
        """Every measured program, or that with `key`, as `top` shows them."""
        scores: dict[str, dict[Seed, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        programs: dict[str, int] = {}
        where, values = ("where +key = ?", (key,)) if key else ("", ())
        for row in self._store.select(MEASUREMENTS, f"{where} order by rowid", *values):
            of_seed = scores[row.key][self._seed(row)]
            if not row.stopped:
                of_seed[row.task] = row.score
            programs[row.key] = row.program
        which = f"select program from measurements {where}"
        rows = self._store.select(PROGRAMS, f"where id in ({which})", *values)
        sources = {row.id: row.source for row in rows}
        found = [(programs[key], evidence(scores[key]), scores[key]) for key in scores]
        tasks = self.config.tasks
        described = []
        for number, seeds, of_key in found:
            spared = any(len(one) < len(tasks) for one in seeds)
            if not seeds or (spared and key is None):
                continue  # what missed the hurdle has no mean to report, unless it is the champion
            whole: list[Mapping[str, float]] = [
                {task: one.get(task, -LARGEST_SCORE) for task in tasks} for one in seeds
            ]
            if number not in sources:
                raise self._damaged(f"program {number}, which was measured")
            described.append(self._described(number, sources[number], whole, of_key))
        return described

    def _described(
        self, number: int, source: str, seeds: list[Mapping[str, float]], scores: Scores
    ) -> dict[str, Any]:
        program = live(self._parsed(source))
        return {
            "id": number,
            **self._estimated(seeds),
            "confirmed": is_confirmed(scores),
            "measurements": sum(len(one) for one in scores.values()),
            "statements": len(program.statements),
            "state_memory": state_memory(program),
            "source": str(program),
        }

    def _validated(self, found: list[Validation]) -> dict[str, Any]:
        """Fitness on validation tasks and its interval, as `_estimated` gives those of a search."""
        if not is_whole(found, self.config):
            raise self._unvalidated()
        mean, low, high = validated_fitness(found, self.config.measurement)
        scores = by_task(found)
        return {
            "fitness": mean,
            "fitness_low": low,
            "fitness_high": high,
            "per_task": {task: float(np.mean(scores[task])) for task in sorted(scores)},
            "seeds": min(map(len, scores.values())),
        }

    def _estimated(self, seeds: list[Mapping[str, float]]) -> dict[str, Any]:
        """Fitness and its interval from scores by task, one mapping a seed."""
        limits = self.config.measurement
        mean, low, high = fitness(seeds, limits.noise_floor, limits.largest_gain)
        return {
            "fitness": mean,
            "fitness_low": low,
            "fitness_high": high,
            "per_task": {
                task: float(np.mean([one[task] for one in seeds])) for task in sorted(seeds[0])
            },
            "seeds": len(seeds),
        }


def _front(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Pareto front: best first, so that only what came before can dominate."""
    front: list[dict[str, Any]] = []
    ordered = sorted(found, key=lambda x: (-x["fitness_low"], x["statements"], x["state_memory"]))
    for one in ordered:
        if not any(
            other["statements"] <= one["statements"]
            and other["state_memory"] <= one["state_memory"]
            for other in front
        ):
            front.append(one)
    return front


def open_run(path: Path | str) -> Run:
    """The run in directory `path`.

    Raises:
        UsageError: there is none.
        EvosearchError: its database is damaged or of a newer version.
    """
    return Run(path)
