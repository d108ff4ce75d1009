"""The reports of `bench`: one training, and trainings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from evosearch.report.tables import (
    Cell,
    Column,
    Note,
    Report,
    Row,
    Section,
    Table,
    Tone,
    paragraphs,
)

PROGRAMS_OF_THE_PAPER = 300_000
"""That a search of Chen et al. 2023 makes."""

_HOW_BATCHES = (
    "floor: one program fused by XLA under vmap over seeds. batched: the interpreter, each lane "
    "with its own program; for mutants, against adamw_paper's floor. naive: the interpreter with "
    "every branch run. programs/s: whole trainings, all lanes full. jit: how many times as long "
    "programs compiled one after another take. roof: the share of the roofline that is reached."
)


def training_report(document: Mapping[str, Any]) -> Report:
    """What `benchmark.bench` measured of one training."""
    columns = (
        Column("weights", ",d"),
        Column("steps", "d"),
        Column("program"),
        Column("floor", ".0f"),
        *(Column(header, "") for header in ("interpreter", "jit program", "jit update")),
    )
    rows = [
        Row((row["weights"], row["steps"], row["program"], row["fused_ms"], *_times_floor(row)))
        for row in document["sizes"]
    ]
    title = f"One training on {document['device']}: ms, and times the floor"
    said = [
        f"{row['weights']:,} weights, {row['program']}: the {row['engine']} engine is picked "
        f"for one training, at {row['engine_to_floor_and_compile']:.2g}x floor and compile "
        f"({row['compile_ms']:.0f} ms)"
        for row in document["sizes"]
    ]
    if document["abstract_us"] is not None:
        said.append(_mutation(document["abstract_us"]))
    if document["search"] is not None:
        said.append(_search(document["search"]))
    return Report(
        (Section(title, table=Table(columns, tuple(rows))), Section(notes=paragraphs(*said)))
    )


def _times_floor(row: Mapping[str, Any]) -> list[Cell]:
    return [
        Cell(row[f"{way}_ms"], f"{row[f'{way}_ms']:.0f} ({row['ratios'][way]:.3g}x)")
        for way in ("interpreter", "jit_per_program", "jit_update")
    ]


def batches_report(document: Mapping[str, Any]) -> Report:
    """What `batches.bench_batches` measured of trainings side by side."""
    title = f"Batches on one {document['device']}, JAX {document['jax']}, {document['date']}"
    by_task = groupby(document["batches"], lambda row: row["task"])
    tables = [_of_task(list(rows)) for _, rows in by_task]
    said = [
        f"With {one['lanes']:,} lanes the device trains {one['programs_per_second']:.3g} "
        "mutants per second, each on all of these tasks."
        for one in document["throughput"]
    ]
    said += [_rates(document["rates"]), *map(_on_paper, document["paper"])]
    if document["abstract_us"] is not None:
        said.append(_mutation(document["abstract_us"]))
    if document["search"] is not None:
        said.append(_batched_search(document["search"]))
    skipped = [
        Note(f"Skipped {one['what']}: {one['why']}.", Tone.QUIET) for one in document["skipped"]
    ]
    how = Section(notes=(Note(_HOW_BATCHES, Tone.QUIET),))
    notes = Section(notes=(*paragraphs(*said), *skipped))
    return Report((Section(title), *tables, how, notes))


def _of_task(rows: Sequence[Mapping[str, Any]]) -> Section:
    first = rows[0]
    title = (
        f"{first['task']}, {first['weights']:,} weights, {first['steps']} steps: "
        "ms per step of the batch"
    )
    columns = (
        Column("lanes", ",d"),
        Column("program"),
        *(Column(header, "") for header in ("floor", "batched", "naive", "programs/s")),
        Column("jit", ""),
        Column("roof", ""),
    )
    return Section(title, table=Table(columns, tuple(map(_batch_row, rows))))


def _batch_row(row: Mapping[str, Any]) -> Row:
    ratios, jit, share = row["ratios"], row["times_jit"], row["roofline"]["share"]
    return Row(
        (
            row["lanes"],
            row["program"],
            Cell(row["floor_ms"], _number(row["floor_ms"])),
            Cell(row["batched_ms"], _beside(row["batched_ms"], ratios["batched"])),
            Cell(row["naive_vmap_ms"], _beside(row["naive_vmap_ms"], ratios["naive_vmap"])),
            Cell(row["programs_per_second"], _number(row["programs_per_second"])),
            None if jit is None else Cell(jit, f"{jit:.3g}x"),
            None if share is None else Cell(share, f"{100 * share:.2g}%"),
        )
    )


def _mutation(microseconds: float) -> str:
    return f"A mutation with abstract execution takes {microseconds:.0f} microseconds."


def _search(search: Mapping[str, float]) -> str:
    """How fast a timed search was, from `benchmark.search_speed`."""
    return (
        f"A search with the quick preset generates {search['generated_per_second']:.0f} and "
        f"measures {search['measured_per_second']:.1f} programs per second, keeps "
        f"{search['cpu_seconds_per_second']:.2f} cores busy and needs "
        f"{search['startup_seconds']:.1f} s to its first measured child."
    )


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


def _batched_search(search: Mapping[str, float]) -> str:
    minutes = PROGRAMS_OF_THE_PAPER / search["generated_per_second"] / 60
    return (
        f"{_search(search)} That was with {search['batch']:,.0f} lanes a task; "
        f"{PROGRAMS_OF_THE_PAPER:,} programs would take {minutes:,.1f} minutes at this rate."
    )


def part_report(document: Mapping[str, Any]) -> Report:
    """What one part of `accelerator.measure` measured: each value in a line of its own."""
    values = dict(document)
    title = f"{values.pop('part')} ({values.pop('seconds'):.0f} s)"
    tone = Tone.BAD if "error" in values else Tone.PLAIN
    return Report((Section(title, notes=tuple(Note(line, tone) for line in _lines(values))),))


def _lines(values: Mapping[str, Any], before: str = "") -> list[str]:
    """A line for each value; of mappings inside, their values behind their name."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _lines(value, f"{before}{name} ")
        elif isinstance(value, list):
            for one in value:
                lines += (
                    _lines(one, f"{before}{name} ")
                    if isinstance(one, Mapping)
                    else [f"{before}{name} {one}"]
                )
        else:
            shown = _number(value) if isinstance(value, float) else str(value)
            lines.append(f"{before}{name} {shown}")
    return lines
