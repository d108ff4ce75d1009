"""`simplify`: from a raw program to a rule that a person understands, every step shown."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evosearch.cli.app import JobTimeout, Json, TrustOption, Workers, app, print_json, warn
from evosearch.cli.interrupts import Interrupted, interruptible
from evosearch.cli.show import ProgramName
from evosearch.errors import UsageError

if TYPE_CHECKING:
    from evosearch.cli.progress import Printer
    from evosearch.measuring.ledger import Ledger
    from evosearch.simplification import Simplification
    from evosearch.simplification.record import Step
    from primitives import Program


@app.command()
def simplify(
    program: ProgramName,
    number: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A program of the run, by its id.")
    ] = None,
    algebra_only: Annotated[
        bool, typer.Option("--algebra-only", help="Only rules that need no training; seconds.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Tasks to measure on, with commas between, or a split; by default those of ten "
            "times the work of the run's, which screen the candidates, else four cheap ones."
        ),
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Tune the constants too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="All seeds follow from it.")] = 0,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Try no more statements after so many; rounding, confirmation and ablation come "
            "on top.",
        ),
    ] = None,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write the program here, or to .json the derivation."),
    ] = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Simplify a program, step by step, with the reason for each.

    First algebra: rules that hold for every program, each with the domain on which it holds. Then
    measurement, of a run's program on tasks of ten times the work of those that it was found on:
    statements go whose removal costs less than 0.01 log loss against the original
    program, by an upper 95% bound over seeds that are added until it is decided; constants get the
    fewest digits that cost no more. Every cost is shown with its bounds, and at the end what the
    result costs on fresh seeds, and what each of its statements is worth. Minutes on two cores;
    Ctrl-C ends it with the steps taken so far. The derivation of a run's program is kept in the
    run.
    """
    from evosearch.cli.programs import ledger_of, load_program, run_and_id
    from evosearch.cli.progress import Printer
    from evosearch.cli.terminal import Terminal
    from evosearch.files import check_writable, write_text
    from evosearch.simplification import simplify_by_algebra
    from evosearch.simplification.derivation_files import derivation_path, save_derivation
    from evosearch.trust import ask_about_tasks

    if algebra_only and (tune or task or minutes):
        raise UsageError("--algebra-only measures nothing: leave out --task, --tune and --minutes")
    if out is not None:
        check_writable(out)
    if number is not None and "#" in program:
        raise UsageError(f"{program} names a program already: leave out {number!r}")
    name = program if number is None else f"{program}#{number.removeprefix('#')}"
    place = run_and_id(name)
    loaded = place[0].program(place[1]) if place else load_program(name)
    printer = Printer(Terminal(quiet=json))
    if algebra_only:
        found = simplify_by_algebra(loaded, printer.step)
    else:
        tasks, screening = measuring_tasks(name, task)
        ask_about_tasks([*tasks, *screening])
        found = measured(
            loaded,
            tasks,
            printer,
            screening=screening,
            tuning=tune,
            seed=seed,
            minutes=minutes,
            workers=workers,
            timeout=job_timeout,
            ledger=ledger_of([name], on_error=warn),
        )
    document = found.document()
    if place and found.confirmation and save_derivation(place[0].directory, place[1], found):
        document["kept"] = str(derivation_path(place[0].directory, place[1]))
    if out is not None:
        as_json = out.suffix.lower() == ".json"
        text = f"{json_text.dumps(document, indent=2)}\n" if as_json else str(found.program)
        write_text(out, text)
    if json:
        print_json(document)
    printer.result(found)
    if found.was_interrupted:
        if place:
            printer.line("Not kept in the run; -o keeps such a program in a file.")
        raise Interrupted
    if "kept" in document:
        printer.line(f"kept in {document['kept']}; `evosearch show {name}` shows it")
    elif place and found.confirmation:
        printer.line(f"not kept: `evosearch show {name}` shows a derivation that left nothing out")


def measured(
    program: Program,
    tasks: list[str],
    printer: Printer,
    *,
    screening: list[str] | None = None,
    tuning: bool = False,
    seed: int = 0,
    minutes: float | None = None,
    workers: int | None = None,
    timeout: float | None = None,
    ledger: Ledger | None = None,
) -> Simplification:
    """Simplifies with measurement; steps are printed as they are taken, progress beside them.

    Ctrl-C ends it with the steps taken so far.
    """
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal
    from evosearch.simplification import Simplification
    from evosearch.simplification import simplify as simplified

    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        printer.step(step)

    shown = printer.console
    console = shown if shown.is_terminal and not shown.quiet else Terminal(stderr=True)
    try:
        with interruptible(), reporting(console) as report:
            return simplified(
                program,
                tasks,
                screening=screening,
                tuning=tuning,
                seed=seed,
                minutes=minutes,
                workers=workers,
                timeout=timeout,
                on_step=take,
                notify=warn,
                progress=report,
                ledger=ledger,
            )
    except Interrupted:
        return Simplification.interrupted(program, steps)


def measuring_tasks(program: str, task: str | None) -> tuple[list[str], list[str]]:
    """The tasks to measure on and those to screen on.

    Those asked for; else, for a program of a run, those of ten times the work of the run's, and the
    run's; else the usual ones.
    """
    from evosearch.cli.evaluate import task_names
    from evosearch.runs.directory import CONFIG, read_config
    from evosearch.runs.validations import ten_times
    from evosearch.simplification.simplifier import DEFAULT_TASKS

    if task is not None:
        tasks = task_names(task)
        return tasks, tasks
    directory = Path(program.rpartition("#")[0] or program)
    if (directory / CONFIG).exists():
        tasks = list(read_config(directory).tasks)
        return ten_times(tasks), tasks
    return list(DEFAULT_TASKS), list(DEFAULT_TASKS)
