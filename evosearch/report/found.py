"""What a search has found so far: its best program, simplified, in words, and what it resembles."""

from __future__ import annotations

from typing import Any

from evosearch.report.inspection import simplified
from evosearch.runs.run import Run
from primitives import Program, zoo
from primitives.explain.nearest import FAR, nearest


def found(run: Run) -> dict[str, Any] | None:
    """The run's best program, as JSON: the winner of its funnel or, without one, its champion.

    Returns:
        `program`, its name for every command; `source`, simplified; `measured`, whether so by
        measurement and not by algebra alone; `in_words`; `nearest`, the known optimizer (`name`,
        `title`, `distance` from 0 to 1). None before the first measurement.

    Raises:
        EvosearchError: the run is damaged.
    """
    place = _best(run)
    if place is None:
        return None
    name, program, number = place
    shown, measured = simplified(program, (run, number) if number is not None else None)
    known = nearest(shown.program)
    return {
        "program": name,
        "source": str(shown.program),
        "measured": measured,
        "in_words": shown.document()["description"],
        "nearest": {
            "name": known.name,
            "title": zoo.entry(known.name).title,
            "distance": known.distance,
        },
    }


def nearest_in_words(known: dict[str, Any]) -> str:
    """Which known optimizer a program is or resembles, and how far it is from it."""
    title, distance = known["title"], known["distance"]
    if distance == 0:
        return f"It has the shape of {title}: the same rule, but for its constants."
    if distance > FAR:
        return f"It is close to nothing known: the nearest, {title}, is at distance {distance:.2f}."
    return (
        f"The nearest known optimizer is {title}, at distance {distance:.2f} (0: the same rule but "
        "for its constants; 1: nothing in common)."
    )


def _best(run: Run) -> tuple[str, Program, int | None] | None:
    """Name, program, and id where it is a program of this run."""
    funnel = run.funnel()
    if funnel and (winner := funnel.winner):
        own = winner.run == str(run.directory)
        return f"{run.directory}#winner", run.winner(), winner.id if own else None
    best = run.best()
    return (str(run.directory), run.champion(), best.id) if best else None
