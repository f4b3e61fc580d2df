"""The OpenVINO runtime, beyond the contract of `tests.contract`."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from engines.catalogue.tfjs import Cut, convert
from engines.runtimes import PixelInput, open_runtime
from engines.runtimes.openvino.compiled import CompiledGraph
from engines.runtimes.openvino.graphs import prepare_graph
from tests.graphs import save_folding_graph, save_keypoint_graph
from tests.tfjs import save_graph_model, small_graph, small_heads


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_keypoint_graph(tmp_path_factory.mktemp("graph") / "net.xml", height=64, width=48)


@pytest.mark.parametrize("targets", [[(-1,), (1, -1)], [(2, 2), (4,), (1, 4)]], ids=["mixes items", "refuses two"])
def test_a_graph_for_one_item_runs_items_one_by_one(tmp_path: Path, targets: list[tuple[int, ...]]) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml", *targets), precision="fp32")
    assert runtime.spec.batch_sizes == (1,)
    assert runtime.run({"data": np.ones((1, 4), np.float32)})["folded"].tolist() == [[2, 2, 2, 2]]
    with pytest.raises(ValueError, match=r"1\.\.1 items"):
        runtime.run({"data": np.ones((2, 4), np.float32)})


def test_a_graph_that_refuses_two_items_when_they_are_computed_runs_them_one_by_one(tmp_path: Path) -> None:
    data = op.parameter([1, 4], ov.Type.f32, name="data")
    target = op.add(op.convert(op.reduce_max(data, np.array([0, 1])), "i64"), op.constant(np.array([1, 4])))
    reshaped = op.reshape(op.multiply(data, op.constant(np.float32(2))), target, special_zero=False)
    data.output(0).set_names({"data"})
    ov.save_model(ov.Model([reshaped], [data], "late"), tmp_path / "late.xml", compress_to_fp16=False)
    runtime = open_runtime(tmp_path / "late.xml", precision="fp32")
    assert runtime.spec.batch_sizes == (1,)
    [output] = runtime.run({"data": np.zeros((1, 4), np.float32)}).values()
    assert output.tolist() == [[0, 0, 0, 0]]


def test_a_reshape_to_a_batch_of_one_takes_any_batch(tmp_path: Path) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml", (1, 2, -1), (1, -1)), precision="fp32")
    assert runtime.spec.batch_sizes == (1, 4)
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(runtime.run({"data": data})["folded"], 2 * data)


def test_a_frozen_tensorflow_graph_is_read_and_its_outputs_have_the_names_of_its_nodes(tmp_path: Path) -> None:
    path = tmp_path / "small.pb"
    path.write_bytes(convert(save_graph_model(tmp_path, *small_graph()), Cut(outputs={"found": "rows"})))
    runtime = open_runtime(path, precision="fp32", pixels=PixelInput(4, 6))
    assert [output.name for output in runtime.spec.outputs] == ["found"]
    assert runtime.spec.batch_sizes == (1, 4)  # though the graph reshapes to a batch of one
    images = np.random.default_rng(0).integers(0, 9, (4, 4, 6, 3), np.uint8)
    rows = small_heads(images / np.float32(2)).repeat(2, axis=1).repeat(2, axis=2).reshape(4, 96, 4)
    np.testing.assert_allclose(runtime.run({"input": images})["found"], rows, rtol=1e-5)


def test_values_inside_a_graph_can_be_its_outputs(tmp_path: Path) -> None:
    path = tmp_path / "small.pb"
    path.write_bytes(convert(save_graph_model(tmp_path, *small_graph())))
    runtime = open_runtime(path, precision="fp32", pixels=PixelInput(4, 6), outputs=["Identity", "heads"])
    images = np.random.default_rng(0).integers(0, 9, (3, 4, 6, 3), np.uint8)
    outputs = runtime.run({"input": images})
    heads = small_heads(images / np.float32(2))
    np.testing.assert_allclose(outputs["heads"], heads, rtol=1e-5)
    np.testing.assert_allclose(outputs["Identity"], heads.max(axis=(1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="the graph has no output elbows; it has Identity"):
        open_runtime(path, outputs=["elbows"])


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


def test_memory_is_released_while_others_run_only_by_graphs_that_nobody_used_meanwhile(graph: Path) -> None:
    core, images = ov.Core(), np.random.default_rng(0).random((1, 3, 64, 48), np.float32)
    compiled = CompiledGraph(core.compile_model(prepare_graph(core.read_model(graph), None, None, 1), "CPU"))
    before = compiled.infer({"image": images})["heatmaps"]
    assert not compiled.release_if_unused()
    assert compiled.release_if_unused()
    np.testing.assert_array_equal(compiled.infer({"image": images})["heatmaps"], before)
    assert not compiled.release_if_unused()

    with closing(open_runtime(graph, precision="fp32")) as runtime, ThreadPoolExecutor() as pool:
        given = [pool.submit(runtime.run, {"image": images}) for _ in range(50)]
        while not all(result.done() for result in given):
            runtime.release(unused=True)
    for result in given:
        np.testing.assert_allclose(result.result()["heatmaps"], before, atol=1e-5)


def test_unknown_precisions_devices_and_backends_are_named(graph: Path) -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is not one of"):
        open_runtime(graph, precision="fp8")
    with pytest.raises(ValueError, match="openvino runs on the device cpu alone, not on cuda"):
        open_runtime(graph, device="cuda")
    with pytest.raises(ValueError, match="backend 'abacus' is not one of openvino, onnxruntime, tensorrt"):
        open_runtime(graph, "abacus")
