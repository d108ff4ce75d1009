"""Derivations for a terminal: each step with what allows it and what it changes."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evosearch.simplification.deciding import WORST
from evosearch.simplification.record import Cost, Simplification, Step
from evosearch.statistics import LARGEST_SCORE
from evosearch.verdicts import is_needed
from primitives import Program, zoo
from primitives.explain.description import describe
from primitives.explain.nearest import FAR, Nearest, changed_lines, nearest

_LARGEST = round(LARGEST_SCORE, 3)
_INDENT = (0, 0, 0, 3)


class Printer:
    """Prints a derivation as it grows, and the result."""

    def __init__(self, console: Console):
        self.console = console
        self._count = 0

    def step(self, step: Step) -> None:
        """The next step."""
        self._count += 1
        print_step(self._count, step, self.console)

    def result(self, found: Simplification) -> None:
        """What the steps led to."""
        print_result(found, self.console)

    def line(self, text: str) -> None:
        """A last line."""
        self.console.print()
        self.console.print(text, highlight=False, soft_wrap=True)


def print_step(number: int, step: Step, console: Console) -> None:
    """A step: its rule, why it is allowed, and the statements that it changes."""
    domain = f"  [{step.domain}]" if step.domain else ""
    console.print(Text.assemble((f"{number}. {step.rule}", "bold"), (domain, "cyan")))
    console.print(Padding(Text(step.reason), _INDENT, expand=False))
    if step.cost:
        console.print(Padding(Text(in_words(step.cost), style="cyan"), _INDENT, expand=False))
    for line in changed_lines(step.before, step.after):
        style = {"-": "red", "+": "green"}[line[0]]
        console.print(Padding(Text(line, style=style), _INDENT, expand=False))
    console.print()


def in_words(cost: Cost) -> str:
    """`costs -0.054 log loss (-0.061 to -0.046, 95% each side), on 32 seeds of 4 tasks; ...`."""
    fitness = "" if cost.fitness is None else f"; fitness {cost.fitness:+.3f}"
    tasks = len(cost.per_task)
    return (
        f"costs {cost.mean:+.4f} log loss ({cost.low:+.4f} to {cost.high:+.4f}, 95% each side), on "
        f"{cost.seeds} seeds of {tasks} task{'s' * (tasks != 1)}{fitness}"
    )


def print_result(found: Simplification, console: Console) -> None:
    """The result, its confirmation on fresh seeds and the ablation table."""
    console.print(Text(str(found.program)))
    source, program = found.source, found.program
    console.print(Text(describe(program)))
    console.print(Text(compared(nearest(program))))
    steps = f"{len(found.steps)} step{'s' * (len(found.steps) != 1)}"
    console.print(
        f"\n{_statements(source)} and {_states(source)} became "
        f"{len(program.statements)} and {_states(program)}, in {steps}."
        if found.steps or found.was_interrupted or found.ended_early
        else "\nThere is nothing to simplify.",
        highlight=False,
    )
    if found.was_interrupted:
        console.print("Interrupted: not everything had been tried, and the whole is not confirmed.")
    if found.ended_early:
        console.print(
            f"After {found.settings['minutes']:g} minutes not everything had been tried; "
            "`evosearch simplify` without --minutes tries it all.",
            highlight=False,
        )
    if found.confirmation:
        seeds = found.confirmation.seeds
        title = f"Cost against the original, in log loss, on {seeds} seeds that decided nothing:"
        _print_table(title, confirmation_table(found.confirmation), console)
        console.print(Text(_verdict(found)))
    if found.ablations:
        seeds = found.ablations[0].cost.seeds
        title = f"Without one statement: cost against the result, in log loss, on {seeds} seeds:"
        _print_table(title, ablation_table(found), console)
        doubtful = [one.statement for one in found.ablations if not is_needed(one.cost.low)]
        if doubtful:
            console.print(Text(f"Not shown to be worth anything here: {'; '.join(doubtful)}."))
        if any(one.cost.high >= _LARGEST for one in found.ablations):
            console.print(
                f"{_LARGEST:+.3f} is the largest cost that is counted: four times the loss."
            )


def _verdict(found: Simplification) -> str:
    limit, worst = (f"{times * found.settings['limit']:g}" for times in (1, WORST))
    if found.unconfirmed:
        return f"Not shown to cost so little: {', '.join(found.unconfirmed)}."
    return f"It costs less than {limit}, and on each task less than {worst} (95%)."


def _print_table(title: str, table: Table, console: Console) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)


def compared(found: Nearest) -> str:
    """The nearest known optimizer in words, and what differs."""
    title = zoo.entry(found.name).title
    if found.distance > FAR:
        return f"It is unlike any known optimizer; {title} is nearest."
    same = "It has the shape of" if found.distance == 0 else "The nearest known optimizer is"
    changes = "\n".join(f"    {line}" for line in found.diff)
    ending = f"; from it to this:\n{changes}" if changes else ", and its constants."
    return f"{same} {title}{ending}"


def _statements(program: Program) -> str:
    count = len(program.statements)
    return f"{count} statement{'s' * (count != 1)}"


def _states(program: Program) -> str:
    count = len(program.states)
    return f"{count or 'no'} state{'s' * (count != 1)}"


def confirmation_table(cost: Cost) -> Table:
    """What the result costs on every task, on seeds that decided nothing."""
    table = Table(box=None, pad_edge=False)
    table.add_column("task")
    table.add_column("mean", justify="right")
    table.add_column("at most (95%)", justify="right")
    for task, (mean, high) in cost.per_task.items():
        table.add_row(task, f"{mean:+.4f}", f"{high:+.4f}")
    table.add_row("all", f"{cost.mean:+.4f}", f"{cost.high:+.4f}", style="bold")
    return table


def ablation_table(found: Simplification) -> Table:
    """What each statement of the result is worth, alone, in the mean and where it is worth most."""
    table = Table(box=None, pad_edge=False)
    table.add_column("statement", min_width=12)  # alone gives way in a narrow terminal
    table.add_column("instead", no_wrap=True)
    table.add_column("cost, 95% bounds", justify="right", no_wrap=True)
    table.add_column("most", justify="right", no_wrap=True)
    table.add_column("on", no_wrap=True)
    for one in found.ablations:
        cost = one.cost
        task, (most, _) = max(cost.per_task.items(), key=lambda pair: pair[1][0])
        held = f"{cost.mean:+.4f} \N{PLUS-MINUS SIGN} {(cost.high - cost.low) / 2:.4f}"
        table.add_row(Text(one.statement), one.instead, held, f"{most:+.3f}", task)
    return table
