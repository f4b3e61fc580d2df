"""The OpenVINO runtime, beyond the contract of `tests.contract`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import open_runtime
from tests.graphs import save_folding_graph, save_keypoint_graph


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_keypoint_graph(tmp_path_factory.mktemp("graph") / "net.xml", height=64, width=48)


def test_a_graph_that_mixes_the_items_of_a_batch_is_run_one_by_one(tmp_path: Path) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml"), precision="fp32")
    assert runtime.spec.rungs == (1,)
    with pytest.raises(ValueError, match=r"1\.\.1 items"):
        runtime.run({"data": np.ones((2, 4), np.float32)})


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


def test_unknown_precisions_devices_and_backends_are_named(graph: Path) -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is not one of"):
        open_runtime(graph, precision="fp8")
    with pytest.raises(ValueError, match="openvino runs on the device cpu alone, not on cuda"):
        open_runtime(graph, device="cuda")
    with pytest.raises(ValueError, match="backend 'abacus' is not one of openvino, torch, tensorrt"):
        open_runtime(graph, "abacus")
