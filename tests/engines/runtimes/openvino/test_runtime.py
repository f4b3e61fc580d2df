"""The OpenVINO runtime, beyond the contract of `tests.contract`."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import open_runtime
from tests.graphs import save_folding_graph, save_keypoint_graph


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


def test_batches_give_the_same_outputs_as_single_items_before_and_after_release(graph: Path) -> None:
    images = np.random.default_rng(0).random((4, 3, 64, 48), np.float32)
    with closing(open_runtime(graph, precision="fp32")) as runtime:
        assert runtime.spec.batch_sizes == (1, 4)
        alone = np.concatenate([runtime.run({"image": images[n : n + 1]})["heatmaps"] for n in range(4)])
        for count in (1, 4, 3, 2, 4):
            given = runtime.run({"image": images[:count]})["heatmaps"]
            np.testing.assert_allclose(given, alone[:count], atol=1e-5)
        runtime.release()
        np.testing.assert_allclose(runtime.run({"image": images})["heatmaps"], alone, atol=1e-5)


def test_unknown_precisions_devices_and_backends_are_named(graph: Path) -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is not one of"):
        open_runtime(graph, precision="fp8")
    with pytest.raises(ValueError, match="openvino runs on the device cpu alone, not on cuda"):
        open_runtime(graph, device="cuda")
    with pytest.raises(ValueError, match="backend 'abacus' is not one of openvino, onnxruntime, tensorrt"):
        open_runtime(graph, "abacus")
