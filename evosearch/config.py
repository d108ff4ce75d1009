"""Configuration of a search: every setting that its result depends on."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evosearch.errors import UsageError
from evosearch.files import read_bytes
from evosearch.fixed import FINISHED_PER_REQUEST, REQUESTS_PER_LANE
from evosearch.seeds import Rounds
from evosearch.statistics import LARGEST_SCORE
from primitives import MAX_STATEMENTS, ProgramError, parse
from primitives.ops import names
from primitives.text.wording import suggestion, truncate
from proxies.training.schedules import SCHEDULES

_LARGEST_FILE = 10**6
"""Maximum size of a configuration file in bytes; the largest configuration is smaller."""
_LONG_KEY = re.compile(r"""(?<![\w.-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
"""A dotted key of 100 parts. The time that `tomllib` takes is quadratic in this number."""
_MAX_REPORTED_ERRORS = 5
"""Maximum number of wrong settings that one message names."""

Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Relative frequency of a mutation."""
Score = Annotated[float, Field(gt=0, le=100)]
"""Log ratio of losses; measured scores are clipped at log 4."""
Seeds = Annotated[int, Field(ge=1, le=10_000)]
"""Number of seeds; 10,000 reduce the error of a mean to a hundredth of the noise."""
SeveralSeeds = Annotated[int, Field(ge=2, le=10_000)]
"""Number of seeds where a confidence interval is needed."""
Count = Annotated[int, Field(ge=0, le=10**12)]
"""Number of programs or trainings."""
Limit = Annotated[int, Field(ge=1, le=10**12)]
"""Number of programs or trainings, at least 1."""
Entrants = Annotated[int, Field(ge=1, le=10_000)]
"""Number of programs that enter a stage of the funnel."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MutationConfig(_Section):
    """Settings of the mutations (Chen et al. 2023, arXiv 2302.06675, section 2.2)."""

    op_set: Literal["paper", "full"] = "paper"
    """Set of ops that inserted statements are drawn from."""
    insert: Weight = 1.0
    """Relative frequency of inserting a random statement."""
    delete: Weight = 1.0
    """Relative frequency of deleting a statement."""
    modify: Weight = 1.0
    """Relative frequency of changing one argument of a statement."""
    tune: Weight = 0.0
    """Relative frequency of changing one constant."""
    wrap: Annotated[Weight, Field(validate_default=True)] = 0.0
    """Relative frequency of applying a random op to a value that the update depends on.

    The result of an inserted statement is seldom used; a wrapped value changes the update at once.
    """
    new_variable: Probability = 0.5
    """Probability that an inserted statement assigns to a new variable, not to an existing one."""
    constant: Probability = 0.25
    """Probability that a random argument is a constant, drawn from N(0, 1)."""
    rescale: Probability = 0.75
    """Probability that a changed constant is multiplied by 2^a, a ~ N(0, 1), instead of redrawn."""
    keep_schedule: bool = False
    """Whether mutation changes only constants from the first statement that reads `lr` onwards.

    The search then finds update rules, not learning-rate schedules.
    """
    keep_step_size: Probability = 0.0
    """Probability of giving a structurally changed child its parent's step size.

    The child's learning rate is scaled so that its updates on random gradients are as large as its
    parent's. The learning rate of children that differ from their parent only in constants is not
    scaled.
    """
    max_statements: Annotated[int, Field(ge=2, le=MAX_STATEMENTS)] = MAX_STATEMENTS
    """Maximum number of statements of a mutated program."""

    @field_validator("wrap")
    @classmethod
    def _some_weight_is_positive(cls, value: float, info: Any) -> float:
        # A weight that failed its own validation is not in `info.data`.
        others = ("insert", "delete", "modify", "tune")
        if value + sum(info.data.get(name, 1.0) for name in others) <= 0:
            raise ValueError(f"{', '.join(others)} and wrap are all 0; give one of them a weight")
        return value


class MeasurementConfig(_Section):
    """Settings of measurements: seeds, early stopping and tests (docs/measurement.md)."""

    requests_per_seed: Limit = 200
    """Number of requests after which new programs are measured on the next seed."""
    hurdle: Annotated[float, Field(ge=-100, le=0)] = -1.0
    """Score below which a program is not measured any further.

    A training whose score falls below the hurdle stops early and scores -log 4. A program whose
    score on a task is below the hurdle is not measured on the remaining tasks, which score -log 4.
    """
    race: Annotated[float, Field(ge=0, le=100)] | None = None
    """Fitness margin of early stopping over tasks on a program's first seed; None turns it off.

    A program is not measured on its remaining tasks if, even with the best program's score on each
    of these tasks, the program's fitness would be more than `race` below the fitness of the best
    program since the last restart. Tasks that are not measured score -log 4.
    """
    largest_gain: Score = LARGEST_SCORE
    """Maximum score of one task, so that no single task dominates the fitness."""
    noise_floor: Annotated[float, Field(gt=0, le=10)] = 0.02
    """Lower bound on the standard deviation of a score between seeds."""
    max_seeds: Seeds = 32
    """Maximum number of search seeds on which one program is measured."""
    challenge_seeds: SeveralSeeds = 4
    """Number of search seeds a program needs before it may challenge the champion."""
    test_seeds: Annotated[int, Field(ge=3, le=10_000)] = 12
    """Number of fresh seeds on which a challenger is compared with the champion.

    Each seed is used in one test only. An undecided test continues on at most four times as many
    seeds.
    """
    confirm_seeds: SeveralSeeds = 16
    """Number of additional fresh seeds from which a new champion's fitness is reported."""
    error_rate: Annotated[float, Field(ge=1e-9, lt=1)] = 0.05
    """Probability that a run ever accepts a champion that is not better.

    Test j of a run has the error rate error_rate / (j (j + 1)).
    """
    tuning_seeds: Seeds = 3
    """Number of seeds on which the baseline's learning rate is tuned."""
    budgets: Annotated[
        list[Annotated[float, Field(gt=0, le=100)]], Field(min_length=1, max_length=100)
    ] = [1.0]
    """Factors on a task's number of steps; successive seeds cycle through them.

    Several factors keep programs from specializing on one training length.
    """
    schedules: Annotated[list[str], Field(min_length=1, max_length=100)] = ["cosine"]
    """Learning-rate schedules; successive seeds cycle through them.

    If both lists have the same length, entry i of `budgets` goes with entry i of `schedules`.
    """

    @field_validator("schedules")
    @classmethod
    def _schedules_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in SCHEDULES:
                near = suggestion(name, SCHEDULES) or f"; there are {', '.join(SCHEDULES)}"
                raise ValueError(f"no schedule {name!r}{near}")
        return names

    @property
    def rounds(self) -> Rounds:
        """Number of steps and schedule of each seed."""
        return Rounds(tuple(self.budgets), tuple(self.schedules))


class FunnelConfig(_Section):
    """Settings of the funnel through validation tasks (docs/measurement.md).

    In a pair of numbers, the first is for the 10x stage and the second for the 100x stage.
    """

    at_end: bool = False
    """Whether the funnel follows the search."""
    entrants: tuple[Entrants, Entrants] = (16, 4)
    """Maximum number of programs that enter each stage."""
    seeds: tuple[SeveralSeeds, SeveralSeeds] = (4, 6)
    """Number of fresh seeds per program in each stage."""
    tuning_seeds: Seeds = 1
    """Number of seeds per trial when learning rate and weight decay are tuned."""
    confirm_seeds: SeveralSeeds = 8
    """Number of additional fresh seeds, at the last stage, from which the winner is reported."""
    largest_gain: Score | None = None
    """Maximum score of one task; None means the search's `largest_gain`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of losses and gradients; weights and evaluations are always float32."""


class Config(_Section):
    """Configuration of a search; `config.toml` in a run's directory holds the resolved values.

    Example:
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = evosearch.load_preset("quick")
        >>> config = evosearch.make_config({**settings, "init": str(zoo.load("adamw_paper"))})
        >>> config.population
        300
    """

    tasks: Annotated[list[str], Field(min_length=1, max_length=1000)]
    """Names of the search tasks, in training order; put cheap ones first."""
    init: str
    """Text of the initial program, which fills the population at the start."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Random seed of the search."""
    programs: Limit | None = None
    """Maximum number of generated programs; None means unlimited."""
    trainings: Limit | None = None
    """Maximum number of trainings, including the baseline's; None means unlimited."""
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Maximum duration of the search in minutes; None means unlimited."""
    population: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    """Number of most recent programs from which parents are chosen."""
    tournament: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    """Number of programs drawn at random, of which the fittest is the parent."""
    restart_every: Limit | None = None
    """Number of programs between restarts of the population; None means no restarts."""
    restart_from: Literal["initial", "best"] = "initial"
    """Program that fills the population at a restart: the initial one or the current champion."""
    tune_first: Count = 0
    """Number of programs at the start that differ from the initial one only in constants.

    The best of these programs replaces the initial program, for restarts too.
    """
    tune_last: Annotated[Count, Field(validate_default=True)] = 0
    """Number of programs before each restart for which only constants are mutated.

    Before the first of these programs is generated, the best program fills the population.
    """
    states: Annotated[int, Field(ge=0, le=8)] = 2
    """Minimum number of states of the initial program; unused states are added to reach it."""
    validation_seeds: Annotated[int, Field(ge=0, le=64)] = 0
    """Number of seeds of the validation of each new champion; 0 means no validation."""
    in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    """Number of requests in flight, that is, requests that are being measured at the same time.

    A request depends on the results of all earlier requests except the last `in_flight`.
    """
    batch: Annotated[int, Field(ge=1, le=16384)] = 1
    """Maximum number of programs that train side by side on each task; memory may limit it further.

    1 trains one program per thread. Larger batches raise the number of requests in flight, so that
    the batches of all tasks stay full. This number may exceed the size of the population.
    """
    simplify: bool = False
    """Whether the winner or, without a funnel, the champion is simplified after the search."""
    simplify_minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Time limit in minutes for removing statements in the simplification; None means unlimited."""
    job_timeout: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Time limit of one training in seconds; a training that exceeds it gets the worst score.

    None means ten minutes on user tasks and no limit on bundled tasks.
    """
    mutation: MutationConfig = MutationConfig()
    measurement: MeasurementConfig = MeasurementConfig()
    funnel: FunnelConfig = FunnelConfig()

    @field_validator("tune_last")
    @classmethod
    def _tuning_fits_between_restarts(cls, tune_last: int, info: Any) -> int:
        every, first = info.data.get("restart_every"), info.data.get("tune_first", 0)
        if tune_last and every is None:
            raise ValueError("tune_last requires restart_every; set restart_every too")
        if every is not None and first + tune_last >= every:
            total = first + tune_last
            raise ValueError(
                f"tune_first + tune_last = {total} must be less than restart_every = {every}"
            )
        return tune_last

    @field_validator("validation_seeds")
    @classmethod
    def _interval_needs_two_seeds(cls, seeds: int) -> int:
        if seeds == 1:
            raise ValueError(
                "one seed gives no confidence interval; use 0 (no validation) or at least 2"
            )
        return seeds

    @field_validator("tasks")
    @classmethod
    def _tasks_are_distinct(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is listed twice; list each task once")
            if name != name.encode("utf-8", "replace").decode("utf-8"):
                raise ValueError(f"{name!r} is not valid UTF-8; rename the file")
        return names

    @field_validator("init")
    @classmethod
    def _init_parses(cls, text: str) -> str:
        try:
            return str(parse(text))
        except ProgramError as error:
            raise ValueError(str(error)) from None

    @property
    def ops(self) -> frozenset[str]:
        """Ops that the search's programs may use: the op set and the initial program's ops."""
        return frozenset(names(self.mutation.op_set)) | parse(self.init).ops

    @property
    def requests(self) -> int:
        """Largest number of requests in flight.

        With batches there are `REQUESTS_PER_LANE` requests for each lane of all tasks. Not every
        request trains at a time: finished requests wait for earlier ones, and the others are spread
        unequally over the tasks, since many programs end after the first task.
        """
        if self.batch == 1:
            return self.in_flight
        return max(self.in_flight, math.ceil(REQUESTS_PER_LANE * self.batch * len(self.tasks)))

    def max_in_flight(self, finished_requests: int) -> int:
        """Return the maximum number of requests in flight after a number of finished requests.

        With batches, a search begins with as many requests as the population has programs. The
        number then grows with the number of finished requests, so that evolution never waits for
        the results of a large part of the search.
        """
        grown = self.population + finished_requests // FINISHED_PER_REQUEST
        return max(self.in_flight, min(self.requests, grown))

    def to_toml(self) -> str:
        """Return the configuration as TOML, which `read_toml` and `make_config` read back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True), multiline_strings=True)


CHANGEABLE_SETTINGS = frozenset(
    [
        "programs",
        "trainings",
        "minutes",
        "validation_seeds",
        "simplify",
        "simplify_minutes",
        "funnel",
        "job_timeout",
    ]
)
"""Settings that a resumed run may change: limits, validation, and what follows the search.

Runs that differ only in these settings are compared as one group."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML file.

    Raises:
        UsageError: The file cannot be read or is not TOML.
    """
    content = read_bytes(path, _LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UsageError(
            f"{path} has more than {_LARGEST_FILE:,} bytes; give a TOML file of settings"
        )
    try:
        text = content.decode("utf-8")
        if _LONG_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(
            f"{path} is nested too deeply; settings have at most one level of sections"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except ValueError:  # Python limits the number of digits of an integer
        raise UsageError(
            f"{path} has a number with thousands of digits; use a smaller one"
        ) from None


def make_config(settings: dict[str, Any]) -> Config:
    """Return a validated configuration.

    Args:
        settings: Values by key, with a dict for each section.

    Raises:
        UsageError: A key is unknown or missing, or a value is not allowed.

    Example:
        >>> import evosearch
        >>> from primitives import zoo
        >>> settings = {"tasks": ["digits-mlp"], "init": str(zoo.load("lion")), "population": 100}
        >>> evosearch.make_config(settings).population
        100
        >>> evosearch.make_config({**settings, "populaton": 100})
        Traceback (most recent call last):
        ...
        evosearch.errors.UsageError: config key 'populaton' does not exist; ...
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = error.errors()
        messages = [_format_error(problem) for problem in problems[:_MAX_REPORTED_ERRORS]]
        remaining = len(problems) - len(messages)
        raise UsageError(
            "; ".join(messages + [f"and {remaining} more"] * bool(remaining))
        ) from None


def _format_error(error: Any) -> str:
    key = truncate(".".join(str(part) for part in error["loc"]))
    if error["type"] == "extra_forbidden":
        section: type[_Section] = Config
        if len(error["loc"]) > 1:
            section = _SECTIONS[error["loc"][0]]
        near = suggestion(truncate(str(error["loc"][-1])), section.model_fields)
        return f"config key {key!r} does not exist{near}"
    if error["type"] == "missing":
        return f"config key {key!r} is missing; set it or start from --preset quick"
    value = "" if key == "init" else f" = {_short_repr(error['input'])}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "int_parsing_size":
        message = "Input should be a smaller integer"
    return f"config key {key!r}{value}: {message}"


def _short_repr(value: object) -> str:
    """Return a setting's representation, truncated for an error message."""
    try:
        return truncate(repr(value))
    except (
        ValueError,
        RecursionError,
    ):  # an integer with thousands of digits, or a deeply nested table
        return f"a very large {type(value).__name__}"


_SECTIONS: dict[str, type[_Section]] = {
    "mutation": MutationConfig,
    "measurement": MeasurementConfig,
    "funnel": FunnelConfig,
}
