"""Batches compiled for an NVIDIA H100 on a computer without a GPU, and what the compiler says.

`python -m evosearch.benchmarking.ahead_of_time` prints the table in `docs/benchmarks.md`. It needs
the extra `aot`: JAX's CUDA plugin, and the assembler `ptxas`. XLA compiles for a description of the
device, `h100.txt`; autotuning, which needs the device, is off. So times cannot be predicted.
Compiler errors are those of a GPU, and the numbers of kernels and registers are close to a GPU's.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from evosearch.config import make_config
from evosearch.measuring.batching import Batching
from evosearch.measuring.engines import Trainers
from evosearch.measuring.job import TaskSetup
from evosearch.measuring.measurement import Engine
from evosearch.measuring.scorer import BASELINE, setups_of
from evosearch.presets import load_preset, presets
from primitives import zoo
from proxies.training.lanes import AXIS, Entry, Lanes, empty_state
from proxies.training.loop import Loop

LANES = 256, 1024
UPDATE_KERNEL = "optimizer_programs"
"""Name of the kernel that runs the lanes' programs."""
_ARCHITECTURE = "sm_90a"
_LOOPS_AND_BRANCHES = {"kWhile", "kConditional"}
_THUNKS_WITH_CHILDREN = {
    *_LOOPS_AND_BRANCHES,
    *("kCommandBuffer", "kSequential", "kAsyncStart", "kDynamicSliceFusion"),
}
"""Kinds of thunks that launch nothing but the thunks that XLA's dump indents below them."""
_NO_WORK = {"kAsyncDone"}
_THUNK = re.compile(r"^( *)\d+: (k\w+) +\[[^]]*\] *(\S*)", re.MULTILINE)
_HOST_WAIT = re.compile(r" (?:while(?!.*known_trip_count)|conditional)\(.*$", re.MULTILINE)
_RESOURCES = re.compile(
    r"Function properties for (\S+)\n.*? (\d+) bytes spill stores.*\n.*Used (\d+) registers"
)


class GraphNodes(NamedTuple):
    """The kernels and copies that a function launches, by name.

    Attributes:
        outside: nodes that run once.
        in_loop: nodes in the function's loop; in `advance`, the nodes of a step.
        nested: nodes in further loops and branches inside that loop.
    """

    outside: tuple[str, ...]
    in_loop: tuple[str, ...]
    nested: tuple[str, ...]


class KernelResources(NamedTuple):
    """What a thread of a kernel needs.

    Attributes:
        registers: number of registers.
        spilled_bytes: bytes of values that do not fit into registers.
    """

    registers: int
    spilled_bytes: int


@dataclass(frozen=True)
class CompiledFunction:
    """What the compilers say about one function of a batch.

    Attributes:
        nodes: the graph nodes.
        host_waits: number of loops and branches at which the device waits for the host, since
            XLA does not know how often the loops run.
        kernels: the resources of each kernel, by its name.
        argument_bytes: size of the arguments: the state of all lanes, and the data.
        temporary_bytes: size of intermediate values.
        seconds: time to compile.
    """

    nodes: GraphNodes
    host_waits: int
    kernels: dict[str, KernelResources]
    argument_bytes: int
    temporary_bytes: int
    seconds: float


class CompiledBatch(NamedTuple):
    """The three functions of a batch; see `proxies.training.lanes.Lanes`."""

    load: CompiledFunction
    advance: CompiledFunction
    finish: CompiledFunction


def graph_nodes(thunks: str) -> GraphNodes:
    """Return the graph nodes in XLA's dump of the thunk sequence.

    In the dump, indentation shows nesting.
    """
    nodes: tuple[list[str], list[str], list[str]] = ([], [], [])
    parents: list[tuple[int, str]] = []
    for spaces, kind, name in _THUNK.findall(thunks):
        while parents and parents[-1][0] >= len(spaces):
            parents.pop()
        if kind in _THUNKS_WITH_CHILDREN:
            parents.append((len(spaces), kind))
        elif kind not in _NO_WORK:
            depth = sum(parent in _LOOPS_AND_BRANCHES for _, parent in parents)
            nodes[min(depth, 2)].append(name or kind)
    return GraphNodes(*map(tuple, nodes))


def host_waits(hlo: str) -> int:
    """Return the number of loops without a known number of iterations, and of branches."""
    return len(_HOST_WAIT.findall(hlo))


def kernel_resources(log: str) -> dict[str, KernelResources]:
    """Return the resources of each kernel in the output of `ptxas -v`, by the kernel's name."""
    return {
        name: KernelResources(int(registers), int(spills))
        for name, spills, registers in _RESOURCES.findall(log)
    }


def compile_batch(setup: TaskSetup, lanes: int) -> CompiledBatch:
    """Compile a batch of a search for an H100.

    Args:
        setup: the setup of a task.
        lanes: number of lanes.

    Raises:
        RuntimeError: the extra `aot` is missing, or a compiler refuses the batch.
    """
    mesh = Mesh(np.array([_device()]), (AXIS,))
    compiled: list[CompiledFunction] = []

    class AheadOfTimeLanes(Lanes):
        """Lanes that are compiled for the H100 and cannot run."""

        def _compile(
            self,
            loop: Loop,
            data: Any,
            example: Entry,
            lanes: int,
            devices: Sequence[jax.Device],
            compiler_options: dict[str, Any] | None,
        ) -> None:
            state = jax.eval_shape(partial(empty_state, loop, data, example, lanes))
            lowered = self._lower(loop, _on(mesh, state, AXIS), _on(mesh, data), mesh)
            compiled.extend(map(_compiled, lowered))

    cpu = jax.devices("cpu")[:1]  # takes the place of the H100, which is not present
    batching = Batching(lanes, devices=cpu, make_lanes=AheadOfTimeLanes)
    Trainers(batching).of(setup).prepare(zoo.load(BASELINE), Engine.BATCHED)
    return CompiledBatch(*compiled)


def _device() -> jax.Device:
    """Return a device for which XLA can compile, but which cannot execute."""
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # cuDNN and the driver are not needed
    target = (resources.files(__package__) / "h100.txt").read_text()
    try:
        topology = topologies.get_topology_desc(
            "h100", "cuda", target_config=target, topology="1x1x1"
        )
    except Exception as error:
        raise RuntimeError(
            "JAX cannot compile for an H100 here; install evosearch with the extra 'aot' "
            f"(pip install '.[aot]'): {error}"
        ) from error
    device: jax.Device = topology.devices[0]
    return device


def _on(mesh: Mesh, tree: Any, *axes: str) -> Any:
    """Return the shapes of the arrays in `tree` on `mesh`, distributed along `axes`."""
    sharding: Any = NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]
    shape: Any = partial(jax.ShapeDtypeStruct, sharding=sharding)
    return jax.tree.map(lambda leaf: shape(leaf.shape, leaf.dtype), tree)


def _compiled(lowered: Any) -> CompiledFunction:
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "xla_gpu_autotune_level": 0,
            "xla_dump_to": folder,
            "xla_dump_emitter_re": "ptx",
        }
        start = time.perf_counter()
        executable = lowered.compile(compiler_options=options)
        seconds = time.perf_counter() - start
        memory = executable.memory_analysis()
        (thunks,) = Path(folder).glob("*thunk_sequence_after_thunk_passes.txt")
        logs = [_ptxas(path) for path in sorted(Path(folder).glob("*.ptx"))]
        return CompiledFunction(
            graph_nodes(thunks.read_text()),
            host_waits(executable.as_text()),
            kernel_resources("".join(logs)),
            memory.argument_size_in_bytes,
            memory.temp_size_in_bytes,
            seconds,
        )


def _ptxas(path: Path) -> str:
    """Assemble a kernel and return the output of `ptxas -v`, which lists its resources."""
    spec = find_spec("nvidia.cu13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    assembler = Path(spec.submodule_search_locations[0], "bin", "ptxas")
    command = [str(assembler), "-v", f"-arch={_ARCHITECTURE}", str(path), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ptxas refuses {path.name}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def setups() -> list[TaskSetup]:
    """Return each task's setup with the largest number of steps in any preset."""
    largest: dict[str, TaskSetup] = {}
    for preset in presets():
        config = make_config({**load_preset(preset), "init": str(zoo.load(BASELINE))})
        for name, setup in setups_of(config).items():
            if name not in largest or setup.longest > largest[name].longest:
                largest[name] = setup
    return list(largest.values())


HEADER = (
    "| task | lanes | nodes per step | nested | host waits | nodes of load, finish | arguments, MB "
    "| temporary, MB | registers | spills, bytes | compile, s |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table_row(setup: TaskSetup, lanes: int, batch: CompiledBatch) -> str:
    """Return the row of a batch in the table of `docs/benchmarks.md`, as Markdown."""
    load, advance, finish = batch
    kernels = {**load.kernels, **finish.kernels, **advance.kernels}
    update = kernels.get(UPDATE_KERNEL)
    cells = (
        f"`{setup.task}`",
        f"{lanes:,}",
        len(advance.nodes.in_loop),
        len(advance.nodes.nested),
        advance.host_waits,
        ", ".join(str(sum(map(len, part.nodes))) for part in (load, finish)),
        round(advance.argument_bytes / 1e6),
        ", ".join(f"{part.temporary_bytes / 1e6:.0f}" for part in batch),
        update.registers if update else "-",
        sum(kernel.spilled_bytes for kernel in kernels.values()),
        ", ".join(f"{part.seconds:.1f}" for part in batch),
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print a row for each batch that the command line names."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="a task; default: all of presets")
    parser.add_argument("--lanes", default=",".join(map(str, LANES)), help="numbers of lanes")
    arguments = parser.parse_args()
    print(HEADER, flush=True)
    for setup in setups():
        if not arguments.tasks or setup.task in arguments.tasks:
            for lanes in map(int, arguments.lanes.split(",")):
                print(table_row(setup, lanes, compile_batch(setup, lanes)), flush=True)


if __name__ == "__main__":
    main()
