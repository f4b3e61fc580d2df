"""The OpenVINO runtime on little graphs: shapes and batches come from the graph, pixels are normalised inside of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import PixelInput, Runtime, RuntimeClosedError, open_runtime
from tests.graphs import save_folding_graph, save_keypoint_graph

PIXELS = PixelInput(64, 48, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_keypoint_graph(tmp_path_factory.mktemp("graph") / "net.xml", height=64, width=48)


@pytest.fixture(scope="module")
def runtime(graph: Path) -> Iterator[Runtime]:
    opened = open_runtime(graph, precision="fp32", pixels=PIXELS)
    yield opened
    opened.close()


def crops(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, 64, 48, 3)).astype(np.uint8)


def test_the_graph_says_its_shapes_and_batches(runtime: Runtime) -> None:
    spec = runtime.spec
    assert [(i.name, i.shape, i.dtype) for i in spec.inputs] == [("image", (64, 48, 3), np.dtype(np.uint8))]
    assert [(o.name, o.shape) for o in spec.outputs] == [("heatmaps", (17, 16, 12))]
    assert spec.rungs[0] == 1
    assert spec.max_batch == spec.rungs[-1] > 1
    assert spec.concurrency >= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_batch_gives_what_its_items_give_alone(runtime: Runtime, count: int) -> None:
    batch = crops(count)
    together = runtime.run({"image": batch})["heatmaps"]
    alone = [runtime.run({"image": batch[n : n + 1]})["heatmaps"][0] for n in range(count)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_pixels_are_normalised_inside_of_the_graph(runtime: Runtime, graph: Path) -> None:
    plain = open_runtime(graph, precision="fp32")
    batch = crops(2)
    normalised = ((batch.astype(np.float32) - PIXELS.mean) / PIXELS.std).transpose(0, 3, 1, 2).astype(np.float32)
    expected = plain.run({"image": np.ascontiguousarray(normalised)})["heatmaps"]
    np.testing.assert_allclose(runtime.run({"image": batch})["heatmaps"], expected, atol=1e-4)


def test_bgr_networks_get_their_channels_in_their_order(graph: Path, runtime: Runtime) -> None:
    mean, std = PIXELS.mean[::-1], PIXELS.std[::-1]
    bgr = open_runtime(graph, precision="fp32", pixels=PixelInput(64, 48, "bgr", mean, std))
    batch = crops(1)
    swapped = runtime.run({"image": np.ascontiguousarray(batch[..., ::-1])})["heatmaps"]
    assert not np.allclose(swapped, runtime.run({"image": batch})["heatmaps"], atol=1e-3)
    reference = open_runtime(graph, precision="fp32")
    normalised = ((batch[..., ::-1].astype(np.float32) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    expected = reference.run({"image": np.ascontiguousarray(normalised)})["heatmaps"]
    np.testing.assert_allclose(bgr.run({"image": batch})["heatmaps"], expected, atol=1e-4)


def test_a_graph_that_mixes_the_items_of_a_batch_is_run_one_by_one(tmp_path: Path) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml"), precision="fp32")
    assert runtime.spec.rungs == (1,)
    with pytest.raises(ValueError, match=r"1\.\.1 items"):
        runtime.run({"data": np.ones((2, 4), np.float32)})


def test_on_one_core_there_is_one_way_to_compute(graph: Path) -> None:
    opened = open_runtime(graph, precision="fp32", pixels=PIXELS, threads=1)
    assert opened.spec.concurrency == 1
    opened.close()


def test_many_threads_get_their_own_results(runtime: Runtime) -> None:
    batches = [crops(1 + seed % 4, seed) for seed in range(24)]
    expected = [runtime.run({"image": batch})["heatmaps"] for batch in batches]
    start = threading.Barrier(6)

    def every_sixth(first: int) -> list[np.ndarray]:
        start.wait(timeout=30)
        return [runtime.run({"image": batch})["heatmaps"] for batch in batches[first::6]]

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(every_sixth, range(6)))
    for index, want in enumerate(expected):
        np.testing.assert_allclose(got[index % 6][index // 6], want, atol=1e-5)


def test_graphs_can_be_opened_side_by_side_in_a_fresh_process(graph: Path) -> None:
    """The binding's tables of types, filled first by two threads at once, would block both for good."""
    program = f"""
import faulthandler, threading
from pathlib import Path
faulthandler.dump_traceback_later(60, exit=True)
from engines.runtimes import open_runtime
threads = [threading.Thread(target=open_runtime, args=(Path({str(graph)!r}),)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_results_belong_to_the_caller(runtime: Runtime) -> None:
    first = runtime.run({"image": crops(2, 1)})["heatmaps"]
    kept = first.copy()
    runtime.run({"image": crops(2, 2)})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("feeds", "complaint"),
    [
        ({"picture": crops(1)}, "inputs are image, not picture"),
        ({"image": crops(1).astype(np.float32)}, r"takes \(n, 64, 48, 3\) uint8, not \(1, 64, 48, 3\) float32"),
        ({"image": crops(1)[:, :32]}, r"takes \(n, 64, 48, 3\) uint8, not \(1, 32, 48, 3\)"),
        ({"image": crops(0)}, r"a batch has 1\.\."),
        ({"image": crops(100)}, r"a batch has 1\.\."),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    runtime: Runtime, feeds: dict[str, np.ndarray], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        runtime.run(feeds)


def test_memory_can_be_given_back_between_batches(runtime: Runtime) -> None:
    before = runtime.run({"image": crops(3)})["heatmaps"]
    runtime.release()
    np.testing.assert_array_equal(runtime.run({"image": crops(3)})["heatmaps"], before)


def test_a_closed_runtime_refuses_and_closing_twice_is_fine(graph: Path) -> None:
    runtime = open_runtime(graph, precision="fp32", max_batch=1, pixels=PIXELS)
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeClosedError):
        runtime.run({"image": crops(1)})


def test_unknown_precisions_outputs_and_backends_are_named(graph: Path) -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is not one of"):
        open_runtime(graph, precision="fp8")
    with pytest.raises(ValueError, match="no output boxes; it has heatmaps"):
        open_runtime(graph, outputs=("boxes",))
    with pytest.raises(ValueError, match="backend 'abacus'"):
        open_runtime(graph, "abacus")
