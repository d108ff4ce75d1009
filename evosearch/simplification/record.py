"""The derivation as data: from a raw program to a rule, one step at a time.

A step has either the rule of algebra that allowed it, with its domain, or the cost that was
measured. Everything has a JSON form, which a run keeps and which reads back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evosearch.simplification.deciding import WORST
from evosearch.verdicts import is_below
from primitives import Program, parse
from primitives import Step as AlgebraStep
from primitives.explain.description import describe
from primitives.explain.nearest import nearest


@dataclass(frozen=True)
class Cost:
    """What a program costs against the original one: log(its loss / the original's), paired.

    Attributes:
        mean: over seeds of the mean over tasks; 0.01 is about 1% more loss.
        low, high: one-sided bounds of `mean`, each at 95% over all looks at the data.
        per_task: for each task the mean and its one-sided upper bound.
        seeds: how many.
        fitness: log(tuned AdamW's loss / the program's loss) on the same tasks, and at most 32 of
            the seeds.
    """

    mean: float
    low: float
    high: float
    per_task: Mapping[str, tuple[float, float]]
    seeds: int
    fitness: float | None = None

    def document(self) -> dict[str, Any]:
        """The cost as JSON."""
        per_task = {task: {"mean": m, "high": high} for task, (m, high) in self.per_task.items()}
        return asdict(self) | {"per_task": per_task}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Cost:
        """The cost that `document` was written from."""
        per_task = {task: (one["mean"], one["high"]) for task, one in document["per_task"].items()}
        return cls(**{**document, "per_task": per_task})


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        rule: a rule of algebra, or `drop`, `replace`, `pair`, `round`, `tune`.
        reason: why the step is allowed, in one line.
        before, after: the program.
        domain: where a rule of algebra holds; None for what was measured.
        cost: of `after` against the original program; None where nothing was measured.
    """

    rule: str
    reason: str
    before: Program
    after: Program
    domain: str | None = None
    cost: Cost | None = None

    @classmethod
    def of_algebra(cls, step: AlgebraStep) -> Step:
        """A step of `primitives.simplify`."""
        equation = step.reason.removesuffix(f", {step.domain.meaning}")
        return cls(step.rule, equation, step.before, step.after, str(step.domain))

    def document(self) -> dict[str, Any]:
        """The step as JSON."""
        return {
            "rule": self.rule,
            "reason": self.reason,
            "domain": self.domain,
            "cost": self.cost and self.cost.document(),
            "before": str(self.before),
            "after": str(self.after),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Step:
        """The step that `document` was written from."""
        return cls(
            document["rule"],
            document["reason"],
            parse(document["before"]),
            parse(document["after"]),
            document["domain"],
            document["cost"] and Cost.read(document["cost"]),
        )


@dataclass(frozen=True)
class Ablation:
    """The result without one of its statements, and nothing else changed.

    Attributes:
        statement: as it is written.
        instead: what its readers read in its place.
        program: the program without it.
        cost: against the result, not the original.
    """

    statement: str
    instead: str
    program: Program
    cost: Cost

    def document(self) -> dict[str, Any]:
        """The ablation as JSON."""
        return {
            "statement": self.statement,
            "instead": self.instead,
            "program": str(self.program),
            "cost": self.cost.document(),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Ablation:
        """The ablation that `document` was written from."""
        cost = Cost.read(document["cost"])
        return cls(document["statement"], document["instead"], parse(document["program"]), cost)


@dataclass(frozen=True)
class Simplification:
    """How a program became a rule.

    Attributes:
        source: the program as it was given.
        program: the result.
        steps: what was done, in order.
        tasks: those that effects were measured on, each with the factor on the learning rate.
        confirmation: the cost of the result on seeds that decided nothing.
        ablations: the result without each of its statements.
        settings: what else was fixed: the limit, the seeds, how many candidates and trials.
    """

    source: Program
    program: Program
    steps: tuple[Step, ...]
    tasks: Mapping[str, float] = field(default_factory=dict)
    confirmation: Cost | None = None
    ablations: tuple[Ablation, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def interrupted(cls, source: Program, steps: Sequence[Step]) -> Simplification:
        """What the steps taken so far led to; each was decided, the whole is not confirmed."""
        program = steps[-1].after if steps else source
        return cls(source, program, tuple(steps), settings={"interrupted": True})

    @property
    def was_interrupted(self) -> bool:
        """Whether it is only what was done until someone stopped it."""
        return bool(self.settings.get("interrupted"))

    @property
    def ended_early(self) -> bool:
        """Whether time was over before everything had been tried."""
        return bool(self.settings.get("ended_early"))

    @property
    def unconfirmed(self) -> list[str]:
        """Where fresh seeds do not show what each step was held to: a task, or their mean."""
        if self.confirmation is None:
            return []
        limit = self.settings["limit"]
        tasks = self.confirmation.per_task.items()
        found = [task for task, (_, high) in tasks if not is_below(high, WORST * limit)]
        mean = is_below(self.confirmation.high, limit)
        return found if mean else [*found, "the mean over tasks"]

    def document(self) -> dict[str, Any]:
        """The derivation as JSON."""
        return {
            "source": str(self.program),
            "statements": len(self.program.statements),
            "states": len(self.program.states),
            "description": describe(self.program),
            "nearest": nearest(self.program).document(),
            "original": str(self.source),
            "original_statements": len(self.source.statements),
            "steps": [step.document() for step in self.steps],
            "tasks": dict(self.tasks),
            "confirmation": self.confirmation and self.confirmation.document(),
            "unconfirmed": self.unconfirmed,
            "ablations": [one.document() for one in self.ablations],
            "settings": dict(self.settings),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Simplification:
        """The derivation that `document` was written from."""
        return cls(
            parse(document["original"]),
            parse(document["source"]),
            tuple(map(Step.read, document["steps"])),
            document["tasks"],
            document["confirmation"] and Cost.read(document["confirmation"]),
            tuple(map(Ablation.read, document["ablations"])),
            document["settings"],
        )
