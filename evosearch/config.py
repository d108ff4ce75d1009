"""The configuration of a search: every number that the result depends on, with its meaning."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evosearch.errors import UsageError
from evosearch.files import read_bytes
from evosearch.seeds import Rounds
from evosearch.statistics import LARGEST_SCORE
from primitives import MAX_STATEMENTS, ProgramError, parse
from primitives.ops import names
from primitives.text.wording import suggestion, truncate
from proxies.training.schedules import SCHEDULES

_LARGEST_FILE = 10**6
"""Bytes of a configuration: room for the longest program and every setting."""
_LONG_KEY = re.compile(r"""(?<![\w.-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
"""A key of a hundred parts; the time of `tomllib` grows with the square of their number."""
_MOST_PROBLEMS = 5
"""So many wrong settings are named in one message."""

Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""A relative frequency; beside one that is a million times another nothing else happens."""
Score = Annotated[float, Field(gt=0, le=100)]
"""A log ratio of losses; those of measurements end at log 4."""
Seeds = Annotated[int, Field(ge=1, le=10_000)]
"""A number of seeds; with so many the error of a mean is a hundredth of the noise."""
SeveralSeeds = Annotated[int, Field(ge=2, le=10_000)]
"""Enough seeds for an interval."""
Count = Annotated[int, Field(ge=0, le=10**12)]
"""A number of programs or trainings; more than any computer makes in a thousand years."""
Limit = Annotated[int, Field(ge=1, le=10**12)]
"""A `Count` that ends or begins something, so at least 1."""
Entrants = Annotated[int, Field(ge=1, le=10_000)]
"""A number of programs that enter a stage of the funnel."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MutationConfig(_Section):
    """How children differ from their parents (Chen et al. 2023, arXiv 2302.06675, section 2.2)."""

    op_set: Literal["paper", "full"] = "paper"
    """The ops that inserted statements are drawn from."""
    insert: Weight = 1.0
    """Relative frequency of inserting a random statement."""
    delete: Weight = 1.0
    """Relative frequency of deleting a statement."""
    modify: Weight = 1.0
    """Relative frequency of changing one argument."""
    tune: Weight = 0.0
    """Relative frequency of changing one constant to another."""
    wrap: Annotated[Weight, Field(validate_default=True)] = 0.0
    """Relative frequency of applying a random op to a value in use: unlike an inserted statement,
    whose result is seldom used, it takes effect at once."""
    new_variable: Probability = 0.5
    """How often an inserted statement assigns to a new variable rather than to one in use."""
    constant: Probability = 0.25
    """How often a random argument is a constant, drawn from N(0, 1)."""
    rescale: Probability = 0.75
    """How often a changed constant is multiplied by 2^a, a from N(0, 1), rather than redrawn."""
    keep_schedule: bool = False
    """Whether all from the first statement with `lr` on stays, but for its constants: the search is
    for rules then, not for schedules."""
    keep_step_size: Probability = 0.0
    """How often a child of another shape, not just with other constants, is given the learning
    rate at which its steps, on noise, are as large as its parent's."""
    max_statements: Annotated[int, Field(ge=2, le=MAX_STATEMENTS)] = MAX_STATEMENTS
    """The longest program that mutation makes."""

    @field_validator("wrap")
    @classmethod
    def _some_mutation(cls, value: float, info: Any) -> float:
        # A weight that is wrong in itself is missing here and has its own message.
        others = ("insert", "delete", "modify", "tune")
        if value + sum(info.data.get(name, 1.0) for name in others) <= 0:
            raise ValueError(f"{', '.join(others)} and wrap are all 0; give one of them a weight")
        return value


class MeasurementConfig(_Section):
    """How programs are measured, so that luck does not rule (docs/measurement.md)."""

    requests_per_seed: Limit = 200
    """After this many requests the seed that new programs are measured on moves on by one."""
    hurdle: Annotated[float, Field(ge=-100, le=0)] = -1.0
    """A program with a lower score on a task, or part of the way through its training, is spared
    the rest of it and the tasks after it; what it is spared counts as -log 4."""
    race: Annotated[float, Field(ge=0, le=100)] | None = None
    """On its first seed a program is spared the tasks that are left once it would, were it even on
    them with the best since the last restart, be behind that by more than this; what it is spared
    counts as -log 4. None for never."""
    largest_gain: Score = LARGEST_SCORE
    """A task's score counts at most this much, so that no single task carries a program."""
    noise_floor: Annotated[float, Field(gt=0, le=10)] = 0.02
    """Least standard deviation between seeds assumed of a score."""
    max_seeds: Seeds = 32
    """A program in the search is measured on at most this many seeds."""
    challenge_seeds: SeveralSeeds = 4
    """Seeds that a program has been measured on before it may challenge the champion."""
    test_seeds: Annotated[int, Field(ge=3, le=10_000)] = 12
    """Fresh seeds on which challenger and champion are compared, each used for one test only; up
    to four times as many if that decides nothing."""
    confirm_seeds: SeveralSeeds = 16
    """Further fresh seeds on which a new champion's reported fitness is measured."""
    error_rate: Annotated[float, Field(ge=1e-9, lt=1)] = 0.05
    """Chance that a run ever takes a champion that is no better; spent as rate / (j (j + 1))."""
    tuning_seeds: Seeds = 3
    """Seeds on which the baseline's learning rate is chosen."""
    budgets: Annotated[
        list[Annotated[float, Field(gt=0, le=100)]], Field(min_length=1, max_length=100)
    ] = [1.0]
    """Factors on a task's steps that the seeds go round, so that no horizon is learnt by heart."""
    schedules: Annotated[list[str], Field(min_length=1, max_length=100)] = ["cosine"]
    """Schedules that the seeds go round likewise; with as many as budgets they go in pairs."""

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
        """The conditions of each seed."""
        return Rounds(tuple(self.budgets), tuple(self.schedules))


class FunnelConfig(_Section):
    """The funnel through validation tasks (docs/measurement.md), a number a stage: 10x, 100x."""

    at_end: bool = False
    """Whether a search ends with it."""
    entrants: tuple[Entrants, Entrants] = (16, 4)
    """How many programs enter a stage at most."""
    seeds: tuple[SeveralSeeds, SeveralSeeds] = (4, 6)
    """Fresh seeds of each entrant."""
    tuning_seeds: Seeds = 1
    """Seeds of each trial of a learning rate or weight decay."""
    confirm_seeds: SeveralSeeds = 8
    """Further fresh seeds at the largest scale that the winner is reported from."""
    largest_gain: Score | None = None
    """A task's score counts at most this much; None for as much as in the search."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What losses and gradients are computed in; weights and evaluations stay float32."""


class Config(_Section):
    """A search. `config.toml` in a run's directory holds the resolved one."""

    tasks: Annotated[list[str], Field(min_length=1, max_length=1000)]
    """Names of the tasks that fitness is averaged over; in this order, so put cheap ones first."""
    init: str
    """The program that the population starts as: text in the language."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random follows from it."""
    programs: Limit | None = None
    """Stop when this many programs have been generated."""
    trainings: Limit | None = None
    """Stop when so many trainings have been made, the baseline's included (docs/measurement.md)."""
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Stop after this long."""
    population: Annotated[int, Field(ge=2, le=1_000_000)] = 1000
    tournament: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    """Programs drawn at random; the fittest of them is the parent."""
    restart_every: Limit | None = None
    """After this many programs the population starts anew; without it, never."""
    restart_from: Literal["initial", "best"] = "initial"
    """What it starts anew as: the initial program, or the champion of the time."""
    tune_first: Count = 0
    """So many programs at first are the initial one with other constants; the best of them is what
    the population starts as then and later."""
    tune_last: Annotated[Count, Field(validate_default=True)] = 0
    """So many programs before each fresh start the population becomes its best, and only constants
    change."""
    states: Annotated[int, Field(ge=0, le=8)] = 2
    """The initial program is given unused states up to this number."""
    validation_seeds: Annotated[int, Field(ge=0, le=64)] = 0
    """Each new champion is validated on so many seeds of 10x the tasks' work; 0 for not at all."""
    in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    """Requests in flight: a request is decided from the results of all but the last so many."""
    batch: Annotated[int, Field(ge=1, le=16384)] = 1
    """Programs of a task that train side by side on each search task, where memory holds so many;
    1 for one in each thread. There are then as many requests in flight as fill the batches, but no
    more than a population."""
    simplify: bool = False
    """End with the winner or, without a funnel, the champion simplified, as `evosearch simplify`
    does it."""
    simplify_minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """After so long no more statements are tried there; None for no limit."""
    job_timeout: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """A training that takes more seconds is given up and counts as the worst score; None for ten
    minutes on a user's task, and no limit on others."""
    mutation: MutationConfig = MutationConfig()
    measurement: MeasurementConfig = MeasurementConfig()
    funnel: FunnelConfig = FunnelConfig()

    @field_validator("tune_last")
    @classmethod
    def _fits_between_starts(cls, tuned: int, info: Any) -> int:
        every, first = info.data.get("restart_every"), info.data.get("tune_first", 0)
        if tuned and every is None:
            raise ValueError("it takes restart_every, which says when a start ends")
        if every is not None and first + tuned >= every:
            total = first + tuned
            raise ValueError(f"tune_first + tune_last = {total}, not below restart_every = {every}")
        return tuned

    @field_validator("validation_seeds")
    @classmethod
    def _an_interval_takes_two(cls, seeds: int) -> int:
        if seeds == 1:
            raise ValueError("one seed gives no interval; use 0 for no validation, or at least 2")
        return seeds

    @field_validator("tasks")
    @classmethod
    def _tasks_differ(cls, names: list[str]) -> list[str]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} stands there twice; name each task once")
            if name != name.encode("utf-8", "replace").decode("utf-8"):
                raise ValueError(f"{name!r} is no UTF-8 text; rename the file")
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
        """What the search's programs are made of: the ops that it inserts and the first one's."""
        return frozenset(names(self.mutation.op_set)) | parse(self.init).ops

    @property
    def requests(self) -> int:
        """Requests in flight, with the batches filled."""
        filled = min(self.batch * len(self.tasks), self.population) if self.batch > 1 else 1
        return max(self.in_flight, filled)

    @property
    def lanes(self) -> int:
        """Trainings side by side on a task: what would mostly be empty is left out.

        A program trains on one task after the other, so the requests in flight are spread over the
        tasks: twice an even share leaves room for the task that most of them are at.
        """
        return min(self.batch, -(-2 * self.requests // len(self.tasks)))

    def to_toml(self) -> str:
        """The configuration as TOML; `load` reads it back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True), multiline_strings=True)


SAME_SEARCH = frozenset(
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
"""Settings that leave the search the same: its limits, and what comes after it.

A resumed search may change them; runs that differ in them alone are compared as one group."""


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    content = read_bytes(path, _LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise UsageError(f"{path} has more than {_LARGEST_FILE:,} bytes; is it a configuration?")
    try:
        text = content.decode("utf-8")
        if _LONG_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply; settings are in sections at most") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except ValueError:  # of Python's limit on the digits of an integer
        raise UsageError(f"{path} has a number of thousands of digits; use a smaller one") from None


def make_config(settings: dict[str, Any]) -> Config:
    """Checked settings.

    Raises:
        UsageError: an unknown key or a value out of range; says which, and what is allowed.
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = error.errors()
        said = [_explained(one) for one in problems[:_MOST_PROBLEMS]]
        more = len(problems) - len(said)
        raise UsageError("; ".join(said + [f"and {more} more"] * bool(more))) from None


def _explained(error: Any) -> str:
    where = truncate(".".join(str(part) for part in error["loc"]))
    if error["type"] == "extra_forbidden":
        section: type[_Section] = Config
        if len(error["loc"]) > 1:
            section = _SECTIONS[error["loc"][0]]
        near = suggestion(truncate(str(error["loc"][-1])), section.model_fields)
        return f"config key {where!r} does not exist{near}"
    if error["type"] == "missing":
        return f"config key {where!r} is missing; set it or start from --preset quick"
    given = "" if where == "init" else f" = {_shown(error['input'])}"
    what = error["msg"].removeprefix("Value error, ")
    if error["type"] == "int_parsing_size":
        what = "Input should be a smaller integer"
    return f"config key {where!r}{given}: {what}"


def _shown(value: object) -> str:
    """A setting in an error message, short whatever it is."""
    try:
        return truncate(repr(value))
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a deep table
        return f"a very large {type(value).__name__}"


_SECTIONS: dict[str, type[_Section]] = {
    "mutation": MutationConfig,
    "measurement": MeasurementConfig,
    "funnel": FunnelConfig,
}
