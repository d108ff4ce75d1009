"""Batches on GPUs without a working kernel run gangs through XLA, with one line of notice."""

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
KERNEL, GANGS = interpreter(OPS), interpreter(OPS, use_kernel=False)
TASK = proxies.load("digits-mlp")
JOB = Job(
    TaskSetup(TASK.name, 8, ops=OPS),
    zoo.load("lion"),
    Engine.BATCHED,
    Conditions(8),
    run_seed=0,
    seed=Seed(Stream.TUNE, 1),
)


def device(platform, version, kind="a device"):
    client = SimpleNamespace(platform_version=version)
    return SimpleNamespace(platform=platform, client=client, device_kind=kind)


NVIDIA = device("gpu", "PJRT C API\ncuda 13000", "NVIDIA H100")
AMD = device("gpu", "PJRT C API\nrocm 70000", "AMD Instinct MI300X")
OTHERS = [device("tpu", "libtpu"), device("cpu", "cpu")]


def failing_lanes(message, attempts, fails=lambda loop: loop.rule is KERNEL):
    """Return a function that makes lanes, or raises an error for loops that fail."""

    def make(loop, *arguments, **settings):
        attempts.append("kernel" if loop.rule is KERNEL else "gangs")
        if fails(loop):
            raise RuntimeError(message)
        return Lanes(loop, *arguments, **settings) if arguments else "lanes"

    return make


def made(message, fails=lambda loop: loop.rule is KERNEL):
    """Return the batching with a fallback, the attempts at making lanes, and the notices."""
    attempts, notices = [], []
    batching = Batching(
        2, notify=notices.append, make_lanes=failing_lanes(message, attempts, fails)
    )
    return with_fallback(batching, Loop(TASK, GANGS)), attempts, notices


@pytest.mark.parametrize(
    "message",
    [
        "INTERNAL: ptxas exited with 1\nstack",
        "RESOURCE_EXHAUSTED: Shared memory size limit exceeded",
    ],
)
def test_a_kernel_that_does_not_compile_is_tried_once_and_replaced_by_gangs(message):
    batching, attempts, notices = made(message)
    assert batching.make_lanes(Loop(TASK, KERNEL)) == "lanes"
    assert batching.make_lanes(Loop(TASK, KERNEL)) == "lanes"
    assert attempts == ["kernel", "gangs", "gangs"]
    first_line = message.splitlines()[0]
    assert notices == [
        f"digits-mlp: the kernel for batches does not compile ({first_line}); "
        "the batch runs through XLA instead, which is slower"
    ]


def test_a_lack_of_memory_does_not_count_as_a_failure_of_the_kernel():
    batching, attempts, notices = made("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")
    for _ in range(2):  # a batch halves its lanes and tries again
        with pytest.raises(RuntimeError, match="Out of memory"):
            batching.make_lanes(Loop(TASK, KERNEL))
    assert attempts == ["kernel", "kernel"]
    assert notices == []


def test_an_error_of_the_gangs_too_is_raised():
    batching, attempts, _ = made("the device fell off the bus", fails=lambda loop: True)
    with pytest.raises(RuntimeError, match="fell off the bus"):
        batching.make_lanes(Loop(TASK, KERNEL))
    assert attempts == ["kernel", "gangs"]


def test_trainings_have_the_same_results_after_a_failed_compilation(monkeypatch):
    monkeypatch.setattr(engines, "runs_kernel", lambda device: True)
    attempts, notices = [], []
    make_lanes = failing_lanes("no kernel image", attempts)
    results = []
    for make in (Lanes, make_lanes):
        batching = Batching(2, devices=jax.devices()[:1], notify=notices.append, make_lanes=make)
        results.append(LocalBackend(1, batching=batching).train(JOB).train_loss)
    np.testing.assert_array_equal(*results)
    assert attempts == ["kernel", "gangs"]
    assert len(notices) == 1


@pytest.mark.parametrize("other", [NVIDIA, *OTHERS], ids=lambda d: d.platform)
def test_devices_with_the_kernel_or_without_need_for_it_give_no_notice(other):
    pytest.importorskip("jax.experimental.pallas.triton")
    assert missing_kernel(other) is None


def test_a_gpu_of_another_vendor_has_no_kernel():
    assert missing_kernel(AMD).startswith("no kernel for batches on AMD Instinct MI300X with JAX")


def test_a_newer_jax_has_no_kernel_and_one_notice_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "primitives.machine.batch.kernel", None)
    notices = []
    Trainers(Batching(2, devices=[NVIDIA], notify=notices.append))
    assert notices == [missing_kernel(NVIDIA)]
    assert "\n" not in notices[0]
