"""The OpenVINO runtime, beyond the contract of `tests.contract`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import open_runtime
from engines.runtimes.openvino import batch_graphs
from engines.runtimes.openvino.compiled import CompiledGraph
from tests.graphs import save_folding_graph, save_keypoint_graph
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_keypoint_graph(tmp_path_factory.mktemp("graph") / "net.xml", height=64, width=48)


def test_a_graph_that_mixes_the_items_of_a_batch_runs_them_one_by_one(tmp_path: Path) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml"), precision="fp32")
    assert runtime.spec.batch_sizes == (1,)
    with pytest.raises(ValueError, match=r"1\.\.1 items"):
        runtime.run({"data": np.ones((2, 4), np.float32)})


def test_graphs_can_be_opened_concurrently_in_a_fresh_process(graph: Path) -> None:
    """The binding's tables of types deadlock if two threads fill them at once."""
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


def test_low_memory_gives_the_same_outputs_while_it_compiles_and_after_release(graph: Path) -> None:
    images = np.random.default_rng(0).random((4, 3, 64, 48), np.float32)
    with (
        closing(open_runtime(graph, precision="fp32")) as whole,
        closing(open_runtime(graph, precision="fp32", low_memory=True)) as small,
    ):
        assert small.spec.batch_sizes == whole.spec.batch_sizes == (1, 2, 4)
        for count in (1, 4, 3, 2, 4) * 4:
            feeds = {"image": images[:count]}
            np.testing.assert_allclose(small.run(feeds)["heatmaps"], whole.run(feeds)["heatmaps"], atol=1e-5)
        small.release()
        np.testing.assert_allclose(
            small.run({"image": images})["heatmaps"], whole.run({"image": images})["heatmaps"], atol=1e-5
        )


def test_a_replaced_file_is_not_mixed_with_the_original(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = np.random.default_rng(0).random((2, 3, 64, 48), np.float32)
    path = save_keypoint_graph(tmp_path / "net.xml", height=64, width=48)
    with closing(open_runtime(path, precision="fp32", low_memory=True)) as runtime:
        alone = np.concatenate([runtime.run({"image": images[n : n + 1]})["heatmaps"] for n in range(2)])
        save_keypoint_graph(path, height=64, width=48, channels=4)
        runtime.run({"image": images})
        wait_for(lambda: "another file than it was" in caplog.text)
        np.testing.assert_allclose(runtime.run({"image": images})["heatmaps"], alone, atol=1e-5)


def test_batches_run_in_pieces_while_there_is_no_memory_for_a_larger_graph(
    graph: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batch_graphs, "_PAUSE_S", 0.05)
    failures = [MemoryError(), RuntimeError("can't start new thread")]
    warm_up = CompiledGraph.warm_up

    def short_of_memory(compiled: CompiledGraph, batch: int) -> None:
        if batch > 1 and failures:
            raise failures.pop()
        warm_up(compiled, batch)

    with closing(open_runtime(graph, precision="fp32", low_memory=True)) as runtime:
        monkeypatch.setattr(CompiledGraph, "warm_up", short_of_memory)
        feeds = {i.name: np.zeros((2, *i.shape), i.dtype) for i in runtime.spec.inputs}
        graphs = runtime._throughput  # type: ignore[attr-defined]
        wait_for(lambda: bool(runtime.run(feeds)) and len(graphs.cut(2)) == 1)
    assert failures == []
    assert caplog.text.count("the graph for batches of 2 cannot be compiled") == 2


def test_unknown_precisions_devices_and_backends_are_named(graph: Path) -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is not one of"):
        open_runtime(graph, precision="fp8")
    with pytest.raises(ValueError, match="openvino runs on the device cpu alone, not on cuda"):
        open_runtime(graph, device="cuda")
    with pytest.raises(ValueError, match="backend 'abacus' is not one of openvino, onnxruntime, tensorrt"):
        open_runtime(graph, "abacus")
