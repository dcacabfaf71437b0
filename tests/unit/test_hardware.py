"""The machine as Python sees it, and the backends a caller may name."""

from __future__ import annotations

import dataclasses
import os

import pytest

import densecore
from densecore.hardware import Hardware, resolve_threads


def test_a_reading_is_plausible():
    machine = densecore.hardware()
    assert isinstance(machine, Hardware)
    assert 1 <= machine.physical <= machine.threads
    assert machine.tier
    assert machine.gpus == ()
    if machine.memory_total:
        assert 0 <= machine.memory_available <= machine.memory_total


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity masks")
def test_threads_never_exceed_the_affinity_mask():
    assert densecore.hardware().threads <= len(os.sched_getaffinity(0))


def test_a_reading_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        densecore.hardware().threads = 1_000


def test_backends_resolve_to_threads():
    machine = densecore.hardware()
    assert resolve_threads(None) == resolve_threads(densecore.CPU()) == machine.physical
    assert resolve_threads(densecore.CPU(threads=3)) == 3


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**12, True, 2.0, "2"])
def test_absurd_thread_counts_are_refused(threads):
    with pytest.raises(densecore.errors.ArgumentError, match="threads = .*1 to 1024"):
        densecore.CPU(threads=threads)


@pytest.mark.parametrize("number", [-1, 64, True, None, "0"])
def test_absurd_gpus_are_refused(number):
    with pytest.raises(densecore.errors.ArgumentError, match="id = .*0 to 63"):
        densecore.GPU(number)


def test_a_gpu_is_refused_with_the_way_out():
    with pytest.raises(densecore.errors.BackendError, match=r"GPU\(0\).*densecore\.CPU\(\)"):
        resolve_threads(densecore.GPU(0))


@pytest.mark.parametrize("backend", ["cpu", 4, densecore.CPU])
def test_something_else_is_no_backend(backend):
    with pytest.raises(densecore.errors.ArgumentError, match="backend = "):
        resolve_threads(backend)
