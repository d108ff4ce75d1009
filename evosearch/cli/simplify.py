"""The command `evosearch simplify`, which simplifies a program by algebra and measurement."""

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
    program_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Id of a program, if PROGRAM is a run.")
    ] = None,
    algebra_only: Annotated[
        bool, typer.Option("--algebra-only", help="Apply only rewrite rules, without training.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Tasks to measure on, comma-separated, or a split. The default is the run's tasks "
            "at ten times the work, after screening on the run's tasks; without a run, four cheap "
            "tasks."
        ),
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Tune the constants too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed from which all seeds derive.")] = 0,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Stop removing statements after this many minutes; rounding, confirmation and "
            "ablation follow.",
        ),
    ] = None,
    workers: Workers = None,
    job_timeout: JobTimeout = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Write the program to this file, or the derivation if it ends in .json.",
        ),
    ] = None,
    trust: TrustOption = False,
    json: Json = False,
) -> None:
    """Simplify a program step by step, with a reason for each step.

    First, rewrite rules are applied, each with the domain in which the rule holds. Then statements
    are removed if the removal is shown to cost less than 0.01 log loss compared with the original
    program, by an upper 95% bound; seeds are added until the bound decides. Constants are rounded
    to the fewest digits within the same limit.

    The report ends with the cost of the simplified program on fresh seeds, and with an ablation of
    each of its statements. A simplification takes minutes on two cores. Ctrl-C ends the
    simplification and keeps the steps taken so far. The derivation of a run's program is stored in
    the run.
    """
    from evosearch.cli.programs import ledger_of, load_program, run_and_id
    from evosearch.cli.progress import Printer
    from evosearch.cli.terminal import Terminal
    from evosearch.files import check_writable, write_text
    from evosearch.simplification import simplify_by_algebra
    from evosearch.simplification.derivation_files import derivation_path, save_derivation
    from evosearch.trust import load_before_progress

    if algebra_only and (tune or task or minutes):
        raise UsageError("--algebra-only does not train; leave out --task, --tune and --minutes")
    if out is not None:
        check_writable(out)
    if program_id is not None and "#" in program:
        raise UsageError(f"{program} already names a program; leave out {program_id!r}")
    name = program if program_id is None else f"{program}#{program_id.removeprefix('#')}"
    origin = run_and_id(name)
    loaded = origin[0].program(origin[1]) if origin else load_program(name)
    printer = Printer(Terminal(quiet=json))
    if algebra_only:
        result = simplify_by_algebra(loaded, printer.step)
    else:
        tasks, screening = choose_tasks(name, task)
        load_before_progress([*tasks, *screening])
        result = simplify_with_progress(
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
    document = result.document()
    if origin and result.confirmation and save_derivation(origin[0].directory, origin[1], result):
        document["kept"] = str(derivation_path(origin[0].directory, origin[1]))
    if out is not None:
        as_json = out.suffix.lower() == ".json"
        text = f"{json_text.dumps(document, indent=2)}\n" if as_json else str(result.program)
        write_text(out, text)
    if json:
        print_json(document)
    printer.result(result)
    if result.was_interrupted:
        if origin:
            printer.line("An interrupted simplification is not stored in the run; use -o FILE.")
        raise Interrupted
    if "kept" in document:
        printer.line(f"stored in {document['kept']}; `evosearch show {name}` shows it")
    elif origin and result.confirmation:
        printer.line(
            "not stored, since the run already holds a complete derivation; "
            f"`evosearch show {name}` shows it"
        )


def simplify_with_progress(
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
    """Simplify a program by algebra and measurement, and print each step when it is taken.

    Ctrl-C ends the simplification and keeps the steps taken so far.
    """
    from evosearch.cli.progress import reporting
    from evosearch.cli.terminal import Terminal
    from evosearch.simplification import Simplification
    from evosearch.simplification import simplify as simplify_program

    steps: list[Step] = []

    def add_step(step: Step) -> None:
        steps.append(step)
        printer.step(step)

    console = printer.console
    if not console.is_terminal or console.quiet:
        console = Terminal(stderr=True)
    try:
        with interruptible(), reporting(console) as report:
            return simplify_program(
                program,
                tasks,
                screening=screening,
                tuning=tuning,
                seed=seed,
                minutes=minutes,
                workers=workers,
                timeout=timeout,
                on_step=add_step,
                notify=warn,
                progress=report,
                ledger=ledger,
            )
    except Interrupted:
        return Simplification.interrupted(program, steps)


def choose_tasks(program: str, task: str | None) -> tuple[list[str], list[str]]:
    """Return the tasks that decide about edits, and the cheaper tasks that screen edits first.

    Args:
        program: The PROGRAM argument.
        task: The --task option. None means the run's tasks at ten times the work, with screening on
            the run's tasks; for a program that comes from no run, the default tasks.
    """
    from evosearch.cli.evaluate import task_names
    from evosearch.runs.directory import CONFIG, read_config
    from evosearch.runs.validations import counterparts_10x_or_same
    from evosearch.simplification.simplifier import DEFAULT_TASKS

    if task is not None:
        tasks = task_names(task)
        return tasks, tasks
    directory = Path(program.rpartition("#")[0] or program)
    if (directory / CONFIG).exists():
        tasks = list(read_config(directory).tasks)
        return counterparts_10x_or_same(tasks), tasks
    return list(DEFAULT_TASKS), list(DEFAULT_TASKS)
