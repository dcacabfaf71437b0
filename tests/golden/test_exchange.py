"""Zero copy both ways: the same address on every side, read-only out, right lifetimes, no leak."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

import densecore
from densecore import Ids
from tests.golden.fixtures import Pair

torch = pytest.importorskip("torch", reason="DLPack is shown with the extra `torch`")

TEXT = "Natalia sold clips to 48 of her friends"


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_numpy_and_torch_see_one_buffer(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    first, second = np.asarray(hidden), np.asarray(hidden)
    assert address(first) == address(second) == address(hidden.numpy())
    assert torch.from_dlpack(hidden).data_ptr() == address(first)
    assert address(np.from_dlpack(hidden)) == address(first)
    np.testing.assert_array_equal(torch.from_dlpack(hidden).numpy(), first)


def test_a_slice_is_a_window(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    part = hidden[2:5]
    assert part.shape == (3, hidden.shape[1])
    assert (part.space, part.fingerprint) == (hidden.space, hidden.fingerprint)
    assert address(np.asarray(part)) == address(np.asarray(hidden)) + 2 * hidden.shape[1] * 4
    assert len(hidden[-2:]) == 2


def test_numpy_is_read_only(small: Pair) -> None:
    array = np.asarray(small.ours.embed(TEXT))
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0, 0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True


def test_the_versioned_capsule_says_read_only(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    assert hidden.__dlpack_device__() == (1, 0)
    assert "dltensor_versioned" in repr(hidden.__dlpack__(max_version=(1, 0)))
    assert not np.from_dlpack(hidden).flags.writeable


def test_an_explicit_copy_is_one(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    copied = np.array(hidden)
    assert copied.flags.writeable
    assert address(copied) != address(np.asarray(hidden))


def test_wrap_borrows_numpy(small: Pair) -> None:
    source = np.random.default_rng(0).standard_normal((7, small.ours.config.width)).astype(np.float32)
    hidden = densecore.Hidden.wrap(source, like=small.ours)
    assert address(np.asarray(hidden)) == address(source)
    assert (hidden.space, hidden.fingerprint) == ("input", small.ours.fingerprint)


def test_wrap_borrows_torch(small: Pair) -> None:
    source = torch.randn(6, small.ours.config.width)
    hidden = densecore.Hidden.wrap(source, like=small.ours)
    assert address(np.asarray(hidden)) == source.data_ptr()
    np.testing.assert_array_equal(np.asarray(hidden), source.numpy())


def test_bfloat16_by_dlpack(small: Pair) -> None:
    source = torch.randn(6, small.ours.config.width).to(torch.bfloat16)
    hidden = densecore.Hidden.wrap(source, like=small.ours)
    assert hidden.dtype == "bfloat16"
    out = torch.from_dlpack(hidden)
    assert (out.dtype, out.data_ptr()) == (torch.bfloat16, source.data_ptr())
    widened = hidden.numpy()
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, source.float().numpy())


def test_rounding_to_bfloat16_is_torchs(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    ours = torch.from_dlpack(hidden.to("bfloat16"))
    assert torch.equal(ours, torch.from_numpy(np.array(hidden)).to(torch.bfloat16))


def test_bfloat16_vectors_are_a_prompt(small: Pair) -> None:
    hidden = small.ours.embed(TEXT).to("bfloat16")
    exact = densecore.Hidden.wrap(hidden.numpy(), like=small.ours)
    np.testing.assert_allclose(small.ours.logits([hidden]), small.ours.logits([exact]), atol=1e-5)


def test_other_layouts_are_copied_and_equal(small: Pair) -> None:
    """Strided and float64 input cannot be borrowed as it is; its values still count."""
    wide = np.random.default_rng(1).standard_normal((10, 2 * small.ours.config.width))
    for source in (wide[:, ::2], wide.astype(np.float32)[::2, : small.ours.config.width]):
        hidden = densecore.Hidden.wrap(source, like=small.ours)
        np.testing.assert_array_equal(np.asarray(hidden), source.astype(np.float32))
        with pytest.raises(densecore.errors.VectorError, match="copied"):
            densecore.Hidden.wrap(source, like=small.ours, copy=False)
    fitting = source.astype(np.float32, order="C")
    assert address(np.asarray(densecore.Hidden.wrap(fitting, like=small.ours, copy=False))) == address(fitting)


def test_views_outlive_the_hidden(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    kept = np.array(hidden)
    array, tensor, part = np.asarray(hidden), torch.from_dlpack(hidden), hidden[1:3]
    del hidden
    gc.collect()
    small.ours.embed(TEXT * 20)  # something else would take the freed memory
    np.testing.assert_array_equal(array, kept)
    np.testing.assert_array_equal(tensor.numpy(), kept)
    np.testing.assert_array_equal(np.asarray(part), kept[1:3])


def test_the_hidden_outlives_what_it_borrows(small: Pair) -> None:
    for make in (np.array, torch.tensor):
        source = make(np.full((9, small.ours.config.width), 0.5, dtype=np.float32))
        hidden = densecore.Hidden.wrap(source, like=small.ours)
        del source
        gc.collect()
        np.full((9, small.ours.config.width), 7.0, dtype=np.float32)
        assert (np.asarray(hidden) == 0.5).all()


def test_views_outlive_the_model(tmp_path) -> None:
    from tests import tiny

    model = densecore.Model.load(tiny.make_tiny("qwen2", tmp_path, seed=4))
    hidden = model.encode(TEXT)
    kept = np.array(hidden)
    del model
    gc.collect()
    np.testing.assert_array_equal(np.asarray(hidden), kept)


def test_capsules_never_consumed_and_consumed_late(small: Pair) -> None:
    hidden = small.ours.embed(TEXT)
    kept = np.array(hidden)
    for version in (None, (1, 0)):
        hidden.__dlpack__(max_version=version)  # dropped at once: its destructor must free it
        capsule = hidden.__dlpack__(max_version=version)
        held = small.ours.embed(TEXT).__dlpack__(max_version=version)  # the producer is gone already
        np.testing.assert_array_equal(torch.utils.dlpack.from_dlpack(capsule).numpy(), kept)
        np.testing.assert_array_equal(torch.utils.dlpack.from_dlpack(held).numpy(), kept)
        del capsule, held
        gc.collect()
    np.testing.assert_array_equal(np.asarray(hidden), kept)


def exchange(model, source: np.ndarray, rounds: int) -> None:
    """Each round: in from NumPy, out to NumPy and torch, back in from torch, and a capsule nobody takes."""
    for _ in range(rounds):
        hidden = densecore.Hidden.wrap(source, like=model)
        np.asarray(hidden)
        again = densecore.Hidden.wrap(torch.from_dlpack(hidden), like=model)
        again.__dlpack__(max_version=(1, 0))
        again[1:2].numpy()


def test_ten_thousand_round_trips_do_not_leak(small: Pair) -> None:
    source = np.random.default_rng(2).standard_normal((256, small.ours.config.width)).astype(np.float32)
    exchange(small.ours, source, 1000)
    gc.collect()
    before = resident()
    exchange(small.ours, source, 10_000)
    gc.collect()
    grown = (resident() - before) / 1e6
    assert grown <= 5, f"10,000 exchanges grew memory by {grown:.1f} MB"


def test_outputs_do_not_leak(small: Pair) -> None:
    ids = Ids(small.ids(1, 256))
    for _ in range(20):
        np.asarray(small.ours.encode(ids))
    gc.collect()
    before = resident()
    for _ in range(200):
        torch.from_dlpack(small.ours.encode(ids))
    gc.collect()
    assert (resident() - before) / 1e6 <= 5
