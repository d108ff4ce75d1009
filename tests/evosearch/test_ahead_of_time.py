"""Tests that batches compile for an NVIDIA H100 without a GPU (`pytest -m aot`).

Other tests check the table of compilation figures in `docs/benchmarks.md`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from evosearch.benchmarking import ahead_of_time
from evosearch.benchmarking.ahead_of_time import (
    LANES,
    UPDATE_KERNEL,
    CompiledBatch,
    CompiledFunction,
    GraphNodes,
    KernelResources,
    compile_batch,
    graph_nodes,
    host_waits,
    kernel_resources,
    table_row,
)
from evosearch.presets import load_preset, presets

SETUPS = {setup.task: setup for setup in ahead_of_time.setups()}
THUNKS = """\
001: kCopy         [source       | next=002 (1)] kCopy
002: kWhile        [prev=001 (1) | next=047 (1)]
condition:
    003: kCustomKernel [source | sink] loop_compare_fusion grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    000: kCommandBuffer [source | sink]
        004: kCustomKernel [source       | next=011 (7) ] gemm_fusion_dot_2 grid: [2, 1, 1]
        005: kCopy         [source       | sink         ] kCopy
    042: kWhile         [prev=000 (1) | next=000 (1)]
condition:
        043: kCustomKernel [source | sink] input_reduce_fusion_11 grid: [1, 1, 1]
      body:
        044: kCustomKernel [source       | next=045 (1)] optimizer_programs grid: [256, 1, 1]
        177: kConditional   [prev=000 (1) | next=178 (1)]
          branch_0:
            057: kCustomKernel [source       | next=059 (2)] loop_gather_fusion grid: [1, 1, 1]
        035: kAsyncStart   [prev=034 (1) | sink        ] stream=computation_stream[1], async_id=35
            037: kDynamicSliceFusion [source | sink] params=1, results=1
                036: kMemset [source | sink] kMemset
        039: kAsyncDone    [source       | sink        ] async_id=35
047: kCustomKernel [prev=002 (1) | sink        ] loop_not_fusion grid: [2, 1, 1]
"""
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'optimizer_programs' for 'sm_90a'
ptxas info    : Function properties for optimizer_programs
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8 bytes cumulative stack size
ptxas info    : Compile time = 863.821 ms
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'loop_add' for 'sm_90a'
ptxas info    : Function properties for loop_add
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers, used 0 barriers
"""


def test_kernels_and_copies_are_grouped_by_the_loop_that_launches_them():
    assert graph_nodes(THUNKS) == GraphNodes(
        outside=("kCopy", "loop_not_fusion"),
        in_loop=("loop_compare_fusion", "gemm_fusion_dot_2", "kCopy"),
        nested=("input_reduce_fusion_11", "optimizer_programs", "loop_gather_fusion", "kMemset"),
    )


def test_loops_of_known_length_do_not_wait_for_the_host():
    unknown = "%a = (s32[]) while(%b), condition=%c, body=%d, config={}"
    known = unknown[:-1] + '"known_trip_count":{"n":"12"}}'
    branch = "%a = f32[] conditional(%b, %c), branch_computations={%d, %e}"
    assert host_waits("\n".join([known, known])) == 0
    assert host_waits("\n".join([unknown, known, branch])) == 2


def test_registers_and_spills_are_read_from_the_log_of_the_assembler():
    assert kernel_resources(PTXAS) == {
        "optimizer_programs": KernelResources(registers=64, spilled_bytes=4),
        "loop_add": KernelResources(registers=16, spilled_bytes=0),
    }


def test_a_row_of_the_table_names_the_figures_of_its_header():
    load = CompiledFunction(GraphNodes(("a",) * 36, (), ()), 0, {}, 5, 2_000_000, 1.88)
    kernels = {UPDATE_KERNEL: KernelResources(64, 4), "other": KernelResources(32, 8)}
    advance = CompiledFunction(
        GraphNodes((), ("b",) * 24, ("c",)), 3, kernels, 139_000_000, 11e6, 19.23
    )
    batch = CompiledBatch(load, advance, load)
    assert table_row(SETUPS["digits-mlp"], 1024, batch) == (
        "| `digits-mlp` | 1,024 | 24 | 1 | 3 | 36, 36 | 139 | 2, 11, 2 | 64 | 12 | 1.9, 19.2, 1.9 |"
    )
    assert ahead_of_time.HEADER.splitlines()[0].count("|") == 12


def test_the_table_has_every_task_of_every_preset_with_its_largest_number_of_steps():
    tasks = {task for name in presets() for task in load_preset(name)["tasks"]}
    assert set(SETUPS) == tasks
    # `longest` is the largest number of steps of a training, as a factor on the task's number of
    # steps: 2 in the preset `focused`, and 1 in the others.
    assert SETUPS["digits-mlp"].longest == 2.0


def test_the_documentation_has_the_table_of_all_tasks_and_numbers_of_lanes():
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    _, table = text.split(ahead_of_time.HEADER)
    rows = table.split("\n\n")[0].strip().splitlines()
    expected = [f"| `{task}` | {lanes:,} |" for task in SETUPS for lanes in LANES]
    assert [" ".join(row.split(" ")[:5]) for row in rows] == expected


@pytest.mark.skipif(find_spec("jax_plugins") is not None, reason="a plugin of JAX is installed")
def test_the_error_without_the_extra_names_the_extra():
    with pytest.raises(RuntimeError, match=r"install evosearch with the extra 'aot'"):
        compile_batch(SETUPS["digits-mlp"], 2)


@pytest.mark.aot
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("task", SETUPS)
def test_the_batch_of_a_task_compiles_for_an_h100(task, lanes):
    """A process of its own has neither the XLA flags of the tests nor their devices."""
    environment = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", ahead_of_time.__name__, task, "--lanes", str(lanes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, row = done.stdout.splitlines()
    print(row)
    _, name, _, nodes_per_step, _, waits, *_, registers, _, _, _ = (
        cell.strip() for cell in row.split("|")
    )
    assert name == f"`{task}`"
    assert int(nodes_per_step) > 0
    assert int(registers) > 0, "the batch does not run the kernel"
    assert int(waits) == 0, "a step waits for the host"
