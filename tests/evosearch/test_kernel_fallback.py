"""Tests that batches run gangs through XLA, with a notice of one line, if the kernel fails."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import proxies
from evosearch.measuring import engines
from evosearch.measuring.batching import Batching
from evosearch.measuring.engines import Trainers
from evosearch.measuring.job import Job, TaskSetup
from evosearch.measuring.kernel_fallback import missing_kernel, with_fallback
from evosearch.measuring.local import LocalBackend
from evosearch.measuring.measurement import Engine
from evosearch.seeds import Conditions, Seed, Stream
from primitives import interpreter, zoo
from proxies.training.lanes import Lanes
from proxies.training.loop import Loop

OPS = frozenset(["interp", "sign", "multiply", "add"])
WITH_KERNEL, WITH_GANGS = interpreter(OPS), interpreter(OPS, use_kernel=False)
"""Interpreters that run batches through the kernel and through XLA."""
TASK = proxies.load("digits-mlp")
LION_JOB = Job(
    TaskSetup(TASK.name, 8, ops=OPS),
    zoo.load("lion"),
    Engine.BATCHED,
    Conditions(8),
    run_seed=0,
    seed=Seed(Stream.TUNE, 1),
)


def fake_device(platform, version, kind="a device"):
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(platform=platform, client=client, device_kind=kind)


NVIDIA_GPU = fake_device("gpu", "PJRT C API\ncuda 13000", "NVIDIA H100")
AMD_GPU = fake_device("gpu", "PJRT C API\nrocm 70000", "AMD Instinct MI300X")
TPU, CPU = fake_device("tpu", "libtpu"), fake_device("cpu", "cpu")


def uses_kernel(loop):
    return loop.rule is WITH_KERNEL


def make_failing_lanes(message, attempts, fails=uses_kernel):
    """Return a function that makes lanes and records its calls.

    Args:
        message: Message of the error that is raised for a loop that fails.
        attempts: List to which each call adds "kernel" or "gangs".
        fails: Function from a loop to whether it fails.
    """

    def make_lanes(loop, *arguments, **settings):
        attempts.append("kernel" if uses_kernel(loop) else "gangs")
        if fails(loop):
            raise RuntimeError(message)
        return Lanes(loop, *arguments, **settings) if arguments else "lanes"

    return make_lanes


def batching_with_fallback(message, fails=uses_kernel):
    """Return a batching whose lanes fail, the list of attempts, and the list of notices."""
    attempts, notices = [], []
    make_lanes = make_failing_lanes(message, attempts, fails)
    batching = Batching(2, notify=notices.append, make_lanes=make_lanes)
    return with_fallback(batching, Loop(TASK, WITH_GANGS)), attempts, notices


@pytest.mark.parametrize(
    "message",
    [
        "INTERNAL: ptxas exited with 1\nstack",
        "RESOURCE_EXHAUSTED: Shared memory size limit exceeded",
    ],
)
def test_a_kernel_that_does_not_compile_is_tried_once_and_replaced_by_gangs(message):
    batching, attempts, notices = batching_with_fallback(message)
    assert batching.make_lanes(Loop(TASK, WITH_KERNEL)) == "lanes"
    assert batching.make_lanes(Loop(TASK, WITH_KERNEL)) == "lanes"
    assert attempts == ["kernel", "gangs", "gangs"]
    first_line = message.splitlines()[0]
    assert notices == [
        f"digits-mlp: the kernel for batches does not compile ({first_line}); "
        "the batch runs through XLA instead, which is slower"
    ]


def test_a_lack_of_memory_does_not_count_as_a_failure_of_the_kernel():
    batching, attempts, notices = batching_with_fallback(
        "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"
    )
    for _ in range(2):  # a batch halves its lanes and tries again
        with pytest.raises(RuntimeError, match="Out of memory"):
            batching.make_lanes(Loop(TASK, WITH_KERNEL))
    assert attempts == ["kernel", "kernel"]
    assert notices == []


def test_an_error_is_raised_if_the_gangs_fail_too():
    batching, attempts, _ = batching_with_fallback(
        "the device fell off the bus", fails=lambda loop: True
    )
    with pytest.raises(RuntimeError, match="fell off the bus"):
        batching.make_lanes(Loop(TASK, WITH_KERNEL))
    assert attempts == ["kernel", "gangs"]


def test_trainings_have_the_same_results_after_a_failed_compilation(monkeypatch):
    monkeypatch.setattr(engines, "runs_kernel", lambda device: True)
    attempts, notices = [], []

    def train(make_lanes):
        batching = Batching(
            2, devices=jax.devices()[:1], notify=notices.append, make_lanes=make_lanes
        )
        return LocalBackend(1, batching=batching).train(LION_JOB)

    expected = train(Lanes)
    result = train(make_failing_lanes("no kernel image", attempts))
    np.testing.assert_array_equal(result.train_loss, expected.train_loss)
    assert attempts == ["kernel", "gangs"]
    assert len(notices) == 1


@pytest.mark.parametrize("device", [NVIDIA_GPU, TPU, CPU], ids=lambda device: device.platform)
def test_nvidia_gpus_tpus_and_cpus_give_no_notice_of_a_missing_kernel(device):
    """TPUs and CPUs need no kernel."""
    pytest.importorskip("jax.experimental.pallas.triton")
    assert missing_kernel(device) is None


def test_a_gpu_of_another_vendor_has_no_kernel():
    assert missing_kernel(AMD_GPU).startswith(
        "no kernel for batches on AMD Instinct MI300X with JAX"
    )


def test_a_kernel_that_cannot_be_imported_gives_one_notice(monkeypatch):
    """A newer version of JAX may lack the module that the kernel needs."""
    monkeypatch.setitem(sys.modules, "primitives.machine.batch.kernel", None)
    notices = []
    Trainers(Batching(2, devices=[NVIDIA_GPU], notify=notices.append))
    assert notices == [missing_kernel(NVIDIA_GPU)]
    assert "\n" not in notices[0]
