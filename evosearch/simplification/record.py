"""Classes for a derivation: the steps from a program to its simplified form.

A step has either a rewrite rule with its domain, or a measured cost. All classes convert to JSON
(`document`) and back (`read`) without loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evosearch.simplification.deciding import TASK_LIMIT_FACTOR
from evosearch.verdicts import is_below
from primitives import Program, parse
from primitives import Step as AlgebraStep
from primitives.explain.description import describe
from primitives.explain.nearest import nearest


@dataclass(frozen=True)
class Cost:
    """Cost of a program: log(loss / loss of the original program), paired by task and seed.

    Attributes:
        mean: Mean over tasks and seeds; 0.01 is about 1% more loss.
        low, high: One-sided confidence bounds of `mean`; each holds with 95% probability over all
            looks at the data.
        per_task: For each task the mean and its one-sided upper bound.
        seeds: Number of seeds.
        fitness: log(loss of tuned AdamW / the program's loss), in the mean over the same tasks and
            at most 32 of the seeds.
    """

    mean: float
    low: float
    high: float
    per_task: Mapping[str, tuple[float, float]]
    seeds: int
    fitness: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the cost as a JSON object."""
        per_task = {
            task: {"mean": mean, "high": high} for task, (mean, high) in self.per_task.items()
        }
        return asdict(self) | {"per_task": per_task}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Cost:
        """Convert a JSON object back to a cost."""
        per_task = {
            task: (cost["mean"], cost["high"]) for task, cost in document["per_task"].items()
        }
        return cls(**{**document, "per_task": per_task})


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        rule: Name of a rewrite rule, or `names`, `drop`, `drop-pair`, `round` or `tune`.
        reason: Why the step is allowed, on one line.
        before, after: The program before and after the step.
        domain: Domain in which the rewrite rule holds; None for a measured step.
        cost: Cost of `after` against the original program; None for a rewrite rule.
    """

    rule: str
    reason: str
    before: Program
    after: Program
    domain: str | None = None
    cost: Cost | None = None

    @classmethod
    def of_algebra(cls, step: AlgebraStep) -> Step:
        """Convert a step of `primitives.simplify`."""
        equation = step.reason.removesuffix(f", {step.domain.meaning}")
        return cls(step.rule, equation, step.before, step.after, str(step.domain))

    def document(self) -> dict[str, Any]:
        """Return the step as a JSON object."""
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
        """Convert a JSON object back to a step."""
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
    """The simplified program without one of its statements.

    Attributes:
        statement: Text of the statement.
        instead: The variable or constant that replaces the statement's value.
        program: The program without the statement.
        cost: Cost of `program` against the simplified program, not against the original program.
    """

    statement: str
    instead: str
    program: Program
    cost: Cost

    def document(self) -> dict[str, Any]:
        """Return the ablation as a JSON object."""
        return {
            "statement": self.statement,
            "instead": self.instead,
            "program": str(self.program),
            "cost": self.cost.document(),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Ablation:
        """Convert a JSON object back to an ablation."""
        cost = Cost.read(document["cost"])
        return cls(document["statement"], document["instead"], parse(document["program"]), cost)


@dataclass(frozen=True)
class Simplification:
    """The derivation of a simplified program.

    Attributes:
        source: The original program.
        program: The simplified program.
        steps: The steps from `source` to `program`.
        tasks: The measuring tasks, each with the tuned multiplier of the program's learning rate.
        confirmation: Cost of the simplified program on seeds that no decision used.
        ablations: The simplified program without each of its statements.
        settings: Other settings and counts, such as the limit and the numbers of seeds, candidates
            and trainings.
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
        """Return the unconfirmed result of the steps that were made before an interruption."""
        program = steps[-1].after if steps else source
        return cls(source, program, tuple(steps), settings={"interrupted": True})

    @property
    def was_interrupted(self) -> bool:
        """Whether the simplification was interrupted by the user."""
        return bool(self.settings.get("interrupted"))

    @property
    def ended_early(self) -> bool:
        """Whether the time limit was reached before all candidates had been tested."""
        return bool(self.settings.get("ended_early"))

    @property
    def unconfirmed(self) -> list[str]:
        """The tasks, or the mean over tasks, whose cost is not below its limit on fresh seeds."""
        if self.confirmation is None:
            return []
        limit = self.settings["limit"]
        tasks = self.confirmation.per_task.items()
        failed = [
            task for task, (_, high) in tasks if not is_below(high, TASK_LIMIT_FACTOR * limit)
        ]
        is_mean_confirmed = is_below(self.confirmation.high, limit)
        return failed if is_mean_confirmed else [*failed, "the mean over tasks"]

    def document(self) -> dict[str, Any]:
        """Return the derivation as a JSON object."""
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
            "ablations": [ablation.document() for ablation in self.ablations],
            "settings": dict(self.settings),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Simplification:
        """Convert a JSON object back to a derivation."""
        return cls(
            parse(document["original"]),
            parse(document["source"]),
            tuple(map(Step.read, document["steps"])),
            document["tasks"],
            document["confirmation"] and Cost.read(document["confirmation"]),
            tuple(map(Ablation.read, document["ablations"])),
            document["settings"],
        )
