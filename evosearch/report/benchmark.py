"""Reports of `evosearch bench`: on one training, on batches, and on an accelerator."""

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
    plain_notes,
)

PROGRAMS_OF_THE_PAPER = 300_000
"""Number of programs in a search of Chen et al. 2023."""

_BATCHES_EXPLANATION = (
    "floor: one program, compiled by XLA as a whole, under vmap over seeds. batched: the "
    "interpreter with one program per lane, and its ratio to the floor (for mutants, to the floor "
    "of adamw_paper). naive: the interpreter if each instruction executes all branches. "
    "programs/s: complete trainings per second if all lanes are full. jit: time to compile and "
    "train the programs one after another, as a multiple of batched. roof: percentage of the "
    "roofline that is reached."
)
"""Explanation of the columns of `_task_section`."""


def training_report(document: Mapping[str, Any]) -> Report:
    """Return the report of `benchmark.bench` on one training."""
    columns = (
        Column("weights", ",d"),
        Column("steps", "d"),
        Column("program"),
        Column("floor", ".0f"),
        *(Column(header, "") for header in ("interpreter", "jit program", "jit update")),
    )
    rows = [
        Row(
            (
                *(row["weights"], row["steps"], row["program"], row["fused_ms"]),
                *_cells_relative_to_floor(row),
            )
        )
        for row in document["sizes"]
    ]
    title = f"One training on {document['device']}: milliseconds, and ratio to the floor"
    notes = [
        f"{row['weights']:,} weights, {row['program']}: one training uses the {row['engine']} "
        f"engine, which takes {row['engine_to_floor_and_compile']:.2g}x the time of floor plus "
        f"compilation ({row['compile_ms']:.0f} ms)"
        for row in document["sizes"]
    ]
    if document["abstract_us"] is not None:
        notes.append(_mutation_sentence(document["abstract_us"]))
    if document["search"] is not None:
        notes.append(_search_sentence(document["search"]))
    return Report(
        (Section(title, table=Table(columns, tuple(rows))), Section(notes=plain_notes(*notes)))
    )


def _cells_relative_to_floor(row: Mapping[str, Any]) -> list[Cell]:
    """Return the milliseconds of each way of training, and their ratio to the floor."""
    return [
        Cell(row[f"{variant}_ms"], f"{row[f'{variant}_ms']:.0f} ({row['ratios'][variant]:.3g}x)")
        for variant in ("interpreter", "jit_per_program", "jit_update")
    ]


def batches_report(document: Mapping[str, Any]) -> Report:
    """Return the report of `batches.bench_batches`."""
    title = f"Batches on one {document['device']}, JAX {document['jax']}, {document['date']}"
    by_task = groupby(document["batches"], lambda row: row["task"])
    tables = [_task_section(list(rows)) for _, rows in by_task]
    sentences = [
        f"With {row['lanes']:,} lanes the device trains {row['programs_per_second']:.3g} "
        "mutants per second, each on all of these tasks."
        for row in document["throughput"]
    ]
    sentences.append(_rates_sentence(document["rates"]))
    sentences += map(_paper_proxy_sentence, document["paper"])
    if document["abstract_us"] is not None:
        sentences.append(_mutation_sentence(document["abstract_us"]))
    if document["search"] is not None:
        sentences.append(_batched_search_sentence(document["search"]))
    if document["driver"] is not None:
        sentences.append(_driver_sentence(document["driver"]))
    skipped = [
        Note(f"Skipped {row['what']}: {row['why']}.", Tone.QUIET) for row in document["skipped"]
    ]
    explanation = Section(notes=(Note(_BATCHES_EXPLANATION, Tone.QUIET),))
    notes = Section(notes=(*plain_notes(*sentences), *skipped))
    return Report((Section(title), *tables, explanation, notes))


def _task_section(rows: Sequence[Mapping[str, Any]]) -> Section:
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
    ratios, jit, roofline_fraction = row["ratios"], row["times_jit"], row["roofline"]["share"]
    return Row(
        (
            row["lanes"],
            row["program"],
            Cell(row["floor_ms"], _format_number(row["floor_ms"])),
            Cell(row["batched_ms"], _format_with_ratio(row["batched_ms"], ratios["batched"])),
            Cell(
                row["naive_vmap_ms"],
                _format_with_ratio(row["naive_vmap_ms"], ratios["naive_vmap"]),
            ),
            Cell(row["programs_per_second"], _format_number(row["programs_per_second"])),
            None if jit is None else Cell(jit, f"{jit:.3g}x"),
            None
            if roofline_fraction is None
            else Cell(roofline_fraction, f"{100 * roofline_fraction:.2g}%"),
        )
    )


def _mutation_sentence(microseconds: float) -> str:
    return f"A mutation with abstract execution takes {microseconds:.0f} microseconds."


def _search_sentence(search: Mapping[str, float]) -> str:
    """Return a sentence on the speed that `benchmark.search_speed` measured."""
    return (
        f"A search with the quick preset generates {search['generated_per_second']:.0f} and "
        f"measures {search['measured_per_second']:.1f} programs per second, keeps "
        f"{search['cpu_seconds_per_second']:.2f} cores busy and needs "
        f"{search['startup_seconds']:.1f} s until its first child is measured."
    )


def _driver_sentence(driver: Mapping[str, Any]) -> str:
    instant, slow = driver["instant"], driver["slow"]
    return (
        f"With {driver['lanes']:,} lanes per task on a fake device that takes no time, a search "
        f"generates {instant['generated_per_second']:,.0f} and measures "
        f"{instant['measured_per_second']:,.0f} programs per second, with "
        f"{instant['driver_us']:.0f} microseconds of CPU time per generated program "
        f"({instant['main_thread_us']:.0f} of them for evolution and the record). If a step takes "
        f"{driver['step_ms']:g} ms, {slow['lanes_filled']:.0%} of the lanes are full."
    )


def _format_number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _format_with_ratio(ms: float | None, ratio: float | None) -> str:
    if ms is None or ratio is None:
        return _format_number(ms)
    return f"{_format_number(ms)} ({ratio:.3g}x)"


def _rates_sentence(rates: Mapping[str, Any]) -> str:
    flops = " and ".join(
        f"{rate / 1e9:,.0f} GFLOP/s of {precision}"
        for precision, rate in rates["flops_per_second"].items()
    )
    moved = rates["bytes_per_second"] / 1e9
    return (
        f"Measured rates of the device: it copies {moved:,.0f} GB/s and multiplies matrices at "
        f"{flops}."
    )


def _paper_proxy_sentence(row: Mapping[str, Any]) -> str:
    return (
        f"{row['task']}, {row['weights']:,} weights: {row['lanes']} lanes train "
        f"{row['steps_per_second']:.3g} steps per second, "
        f"{row['programs_per_device_hour']:.3g} programs per device-hour."
    )


def _batched_search_sentence(search: Mapping[str, float]) -> str:
    minutes = PROGRAMS_OF_THE_PAPER / search["generated_per_second"] / 60
    return (
        f"{_search_sentence(search)} It used {search['batch']:,.0f} lanes per task. At this rate "
        f"{PROGRAMS_OF_THE_PAPER:,} programs take {minutes:,.1f} minutes."
    )


def part_report(document: Mapping[str, Any]) -> Report:
    """Return the report of one part of `accelerator.measure`, with one value per line."""
    values = dict(document)
    title = f"{values.pop('part')} ({values.pop('seconds'):.0f} s)"
    tone = Tone.BAD if "error" in values else Tone.PLAIN
    return Report((Section(title, notes=tuple(Note(line, tone) for line in _value_lines(values))),))


def _value_lines(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line for each value; nested names are joined."""
    lines: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _value_lines(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            for item in value:
                lines += (
                    _value_lines(item, f"{prefix}{name} ")
                    if isinstance(item, Mapping)
                    else [f"{prefix}{name} {item}"]
                )
        else:
            text = _format_number(value) if isinstance(value, float) else str(value)
            lines.append(f"{prefix}{name} {text}")
    return lines
