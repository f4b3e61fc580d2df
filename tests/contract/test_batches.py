"""Arrays in, arrays out: shapes come from the graph, all batch sizes work, and items do not affect each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engines.runtimes import PixelInput, Runtime
from tests.contract.network import HEATMAPS, INPUT, KEYPOINTS, MEANS, crops, expected, normalised

NEAR = 2e-4
"""Tolerance for sigmoids, which are 0..1."""


def test_the_spec_has_the_names_shapes_and_types_of_the_graph(runtime: Runtime) -> None:
    spec = runtime.spec
    assert [(i.name, i.shape, i.dtype) for i in spec.inputs] == [(INPUT, (64, 48, 3), np.dtype(np.uint8))]
    assert [(o.name, o.shape, o.dtype) for o in spec.outputs] == [
        (HEATMAPS, (KEYPOINTS, 16, 12), np.dtype(np.float32)),
        (MEANS, (KEYPOINTS,), np.dtype(np.float32)),
    ]
    assert spec.precision == "fp32"
    assert spec.device


def test_batch_sizes_ascend_from_one_to_the_largest_batch(runtime: Runtime) -> None:
    spec = runtime.spec
    assert spec.batch_sizes[0] == 1
    assert list(spec.batch_sizes) == sorted(set(spec.batch_sizes))
    assert spec.max_batch == spec.batch_sizes[-1] > 1
    assert spec.concurrency >= 1


def test_every_batch_size_gives_the_expected_outputs(runtime: Runtime) -> None:
    for count in range(1, runtime.spec.max_batch + 1):
        batch = crops(count, seed=count)
        got, want = runtime.run({INPUT: batch}), expected(normalised(batch))
        assert list(got) == [HEATMAPS, MEANS]
        np.testing.assert_allclose(got[HEATMAPS], want[HEATMAPS], atol=NEAR)
        np.testing.assert_allclose(got[MEANS], want[MEANS], atol=NEAR)


def test_a_short_batch_is_not_affected_by_a_longer_one_before_it(runtime: Runtime) -> None:
    runtime.run({INPUT: np.full((runtime.spec.max_batch, 64, 48, 3), 255, np.uint8)})
    batch = crops(3)
    got = runtime.run({INPUT: batch})[HEATMAPS]
    assert len(got) == 3
    np.testing.assert_allclose(got, expected(normalised(batch))[HEATMAPS], atol=NEAR)


def test_channels_are_reordered_and_normalised_in_the_graph(opened: Callable[..., Runtime]) -> None:
    bgr = PixelInput(64, 48, "bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    batch = crops(2)
    got = opened(pixels=bgr).run({INPUT: batch})[HEATMAPS]
    np.testing.assert_allclose(got, expected(normalised(batch, bgr))[HEATMAPS], atol=NEAR)


def test_without_pixels_the_network_takes_its_original_input(opened: Callable[..., Runtime]) -> None:
    runtime = opened(pixels=None)
    assert [(i.shape, i.dtype) for i in runtime.spec.inputs] == [((3, 64, 48), np.dtype(np.float32))]
    batch = normalised(crops(2))
    np.testing.assert_allclose(runtime.run({INPUT: batch})[HEATMAPS], expected(batch)[HEATMAPS], atol=NEAR)


def test_only_the_chosen_outputs_are_returned(opened: Callable[..., Runtime]) -> None:
    runtime = opened(outputs=(MEANS,))
    assert [o.name for o in runtime.spec.outputs] == [MEANS]
    batch = crops(2)
    got = runtime.run({INPUT: batch})
    assert list(got) == [MEANS]
    np.testing.assert_allclose(got[MEANS], expected(normalised(batch))[MEANS], atol=NEAR)


@pytest.mark.parametrize(("most", "batch_sizes"), [(1, (1,)), (3, (1, 2, 3)), (8, (1, 2, 4, 8))])
def test_the_largest_batch_can_be_chosen(
    opened: Callable[..., Runtime], most: int, batch_sizes: tuple[int, ...]
) -> None:
    assert opened(max_batch=most).spec.batch_sizes == batch_sizes


def test_one_bad_item_does_not_hurt_its_neighbours(opened: Callable[..., Runtime]) -> None:
    runtime = opened(pixels=None)
    batch = normalised(crops(4))
    want = expected(batch)[HEATMAPS]
    for value in (np.nan, np.inf, -np.inf, 3e38):
        spoilt = batch.copy()
        spoilt[1] = value
        got = runtime.run({INPUT: spoilt})[HEATMAPS]
        assert got.shape == want.shape
        np.testing.assert_allclose(got[[0, 2, 3]], want[[0, 2, 3]], atol=NEAR)


def test_arrays_of_any_memory_layout_are_accepted_and_not_modified(runtime: Runtime) -> None:
    batch = crops(2)
    want = expected(normalised(batch))[HEATMAPS]
    fortran = np.asfortranarray(batch)
    backwards = batch[:, ::-1].copy()[:, ::-1]
    read_only = batch.copy()
    read_only.setflags(write=False)
    for given in (fortran, backwards, read_only):
        np.testing.assert_allclose(runtime.run({INPUT: given})[HEATMAPS], want, atol=NEAR)
        np.testing.assert_array_equal(given, batch)


def test_returned_arrays_belong_to_the_caller(runtime: Runtime) -> None:
    first = runtime.run({INPUT: crops(2, 1)})
    kept = {name: array.copy() for name, array in first.items()}
    for seed in range(4):
        runtime.run({INPUT: crops(2, seed + 2)})
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
        assert array.flags.writeable


def test_memory_can_be_released_between_batches(runtime: Runtime) -> None:
    before = runtime.run({INPUT: crops(3)})[HEATMAPS]
    runtime.release()
    np.testing.assert_array_equal(runtime.run({INPUT: crops(3)})[HEATMAPS], before)
