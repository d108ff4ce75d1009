"""Measured batches as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from evosearch.report.evaluation_tables import search_sentence, table

PROGRAMS_OF_THE_PAPER = 300_000
"""That a search of Chen et al. 2023 makes."""

_HOW = (
    "floor: one program fused by XLA under vmap over seeds. batched: the interpreter, each lane "
    "with its own program; for mutants, against adamw_paper's floor. naive: the interpreter with "
    "every branch run. programs/s: whole trainings, all lanes full. jit: how many times as long "
    "programs compiled one after another take. roof: the share of the roofline that is reached."
)


def render_batches(document: Mapping[str, Any], console: Console) -> None:
    """Prints what `batches.bench_batches` measured."""
    title = f"Batches on one {document['device']}, JAX {document['jax']}, {document['date']}"
    console.print(title, highlight=False, markup=False, style="bold")
    for _, rows in groupby(document["batches"], lambda row: row["task"]):
        console.print()
        console.print(_task_table(list(rows)))
    console.print(_HOW, style="dim", highlight=False)
    console.print()
    for one in document["throughput"]:
        say = (
            f"With {one['lanes']:,} lanes the device trains {one['programs_per_second']:.3g} "
            "mutants per second, each on all of these tasks."
        )
        console.print(say, highlight=False)
    for sentence in (_rates(document["rates"]), *map(_on_paper, document["paper"])):
        console.print(sentence, highlight=False, markup=False)
    if document["abstract_us"] is not None:
        console.print(
            f"A mutation with abstract execution takes {document['abstract_us']:.0f} microseconds.",
            highlight=False,
        )
    if document["search"] is not None:
        console.print(_search(document["search"]), highlight=False)
    for one in document["skipped"]:
        console.print(f"Skipped {one['what']}: {one['why']}.", style="dim", highlight=False)


def _task_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    first = rows[0]
    made = table(
        f"{first['task']}, {first['weights']:,} weights, {first['steps']} steps: "
        "ms per step of the batch",
        ("lanes", "program", "floor", "batched", "naive", "programs/s", "jit", "roof"),
    )
    for row in rows:
        ratios, share = row["ratios"], row["roofline"]["share"]
        made.add_row(
            f"{row['lanes']:,}",
            row["program"],
            _number(row["floor_ms"]),
            _beside(row["batched_ms"], ratios["batched"]),
            _beside(row["naive_vmap_ms"], ratios["naive_vmap"]),
            _number(row["programs_per_second"]),
            "-" if row["times_jit"] is None else f"{row['times_jit']:.3g}x",
            "-" if share is None else f"{100 * share:.2g}%",
        )
    return made


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _beside(ms: float | None, ratio: float | None) -> str:
    if ms is None or ratio is None:
        return _number(ms)
    return f"{_number(ms)} ({ratio:.3g}x)"


def _rates(rates: Mapping[str, Any]) -> str:
    flops = " and ".join(
        f"{rate / 1e9:,.0f} GFLOP/s of {precision}"
        for precision, rate in rates["flops_per_second"].items()
    )
    moved = rates["bytes_per_second"] / 1e9
    return f"The device was measured to copy {moved:,.0f} GB/s and to multiply matrices at {flops}."


def _on_paper(one: Mapping[str, Any]) -> str:
    return (
        f"{one['task']}, {one['weights']:,} weights: {one['lanes']} lanes make "
        f"{one['steps_per_second']:.3g} steps per second, "
        f"{one['programs_per_device_hour']:.3g} programs per device-hour."
    )


def _search(search: Mapping[str, float]) -> str:
    minutes = PROGRAMS_OF_THE_PAPER / search["generated_per_second"] / 60
    return (
        f"{search_sentence(search)} That was with {search['batch']:,.0f} lanes a task; "
        f"{PROGRAMS_OF_THE_PAPER:,} programs would take {minutes:,.1f} minutes at this rate."
    )
