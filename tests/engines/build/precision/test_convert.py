"""Conversion of fp32 graphs to other precisions: strongly typed, with fp32 where needed."""

from __future__ import annotations

import platform
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")

import onnx
from onnx import TensorProto, helper

from engines.build.precision.convert import Conversion, Precision, PrecisionError, convert
from engines.runtimes import open_runtime
from tests.engines.build.small import Floats, images, save_network, spot_finder, spots, there_and_back

_LOW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def maps(graph: Path, batch: Floats) -> Floats:
    """The graph's outputs in OpenVINO."""
    runtime = open_runtime(graph, precision="fp32", max_batch=2)
    result: Floats = next(iter(runtime.run({"images": batch}).values()))
    runtime.close()
    return result


@pytest.mark.parametrize(("precision", "near"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_convolutions_change_their_type_and_the_graph_keeps_its_inputs_and_outputs(
    precision: Precision, near: float, tmp_path: Path
) -> None:
    graph = save_network(tmp_path / "small.onnx")
    done = convert(graph, tmp_path / "out/low.onnx", precision)
    assert done == Conversion(tmp_path / "out/low.onnx", precision, 4, {"normalise": "before the first convolution"})

    model = onnx.load(done.path)
    ports = (*model.graph.input, *model.graph.output)
    assert [port.type.tensor_type.elem_type for port in ports] == [TensorProto.FLOAT] * 2
    assert Counter(tensor.data_type for tensor in model.graph.initializer) == {_LOW[precision]: 2, TensorProto.FLOAT: 1}
    assert [node.op_type for node in model.graph.node].count("Cast") == 2

    expected = maps(graph, images())
    np.testing.assert_allclose(maps(done.path, images()), expected, atol=near * np.abs(expected).max())


def test_nodes_that_magnify_rounding_or_decode_results_stay_in_fp32(tmp_path: Path) -> None:
    graph = save_network(
        tmp_path / "small.onnx",
        middle=[
            helper.make_node("Softmax", ["a"], ["soft"], name="softmax", axis=1),
            helper.make_node("Relu", ["soft"], ["b"], name="carrier"),
        ],
        tail=[
            helper.make_node("Sigmoid", ["c"], ["share"], name="sigmoid"),
            helper.make_node("Mul", ["share", "mean"], ["maps"], name="places"),
        ],
    )
    kept = convert(graph, tmp_path / "low.onnx", "fp16").kept
    assert kept == {
        "normalise": "before the first convolution",
        "relu": "feeds no further convolution",
        "softmax": "sensitive",
        "sigmoid": "feeds no further convolution",
        "places": "feeds no further convolution",
    }
    np.testing.assert_allclose(maps(tmp_path / "low.onnx", images()), maps(graph, images()), rtol=2e-3)


def test_values_too_large_for_fp16_are_found_on_real_inputs(tmp_path: Path) -> None:
    middle, constants = there_and_back("Mul", "Div", 1e5)
    graph = save_network(tmp_path / "small.onnx", middle, constants=constants)
    blind = convert(graph, tmp_path / "blind.onnx", "fp16")
    assert list(blind.kept) == ["normalise", "there", "back"]  # whose weight of 100000 is itself too large
    measured = convert(graph, tmp_path / "measured.onnx", "fp16", calibration=[{"images": images()}])
    assert list(measured.kept) == ["normalise", "there", "between", "back"]
    assert "come near to what fp16 can hold" in measured.kept["between"]
    assert list(convert(graph, tmp_path / "b.onnx", "bf16", calibration=[{"images": images()}]).kept) == ["normalise"]


exact_int8 = pytest.mark.skipif(
    platform.machine() == "x86_64" and not re.search(r"vnni|amx_int8", Path("/proc/cpuinfo").read_text("utf-8")),
    reason="without VNNI the int8 kernels saturate, so that nodes stay in fp32 that int8 itself does not harm",
)


def batches(count: int = 4) -> list[dict[str, Floats]]:
    """Inputs for calibration."""
    return [{"images": images(count)}]


@exact_int8
def test_int8_gives_every_convolution_q_and_dq_nodes_and_keeps_the_mean_output(tmp_path: Path) -> None:
    graph = save_network(tmp_path / "small.onnx")
    done = convert(graph, tmp_path / "low.onnx", "int8", calibration=batches(2))
    assert (done.precision, done.kept) == ("int8", {})
    nodes = Counter(node.op_type for node in onnx.load(done.path).graph.node)
    assert (nodes["QuantizeLinear"], nodes["DequantizeLinear"]) == (2, 4)  # 2 activations, 2 weights

    expected, given = maps(graph, images()), maps(done.path, images())
    rough = np.abs(given - expected).max() / np.abs(expected).max()
    assert 1e-3 < rough < 0.1
    shift = np.abs((given - expected).mean(axis=(0, 2, 3))).mean()
    assert shift < 0.12 * np.abs(given - expected).mean()  # 0.26 without bias correction


def test_a_node_that_int8_harms_stays_in_fp32(tmp_path: Path) -> None:
    wide = np.where(np.arange(8) == 3, 3e3, 1).astype(np.float32)  # one channel of eight determines the scale
    weights = spot_finder()
    first, second = weights["first"] * wide[:, None, None, None], weights["second"] / wide[:, None, None]
    graph = save_network(tmp_path / "small.onnx", constants={"first": first, "second": second})
    done = convert(graph, tmp_path / "low.onnx", "int8", calibration=[{"images": spots()}])
    assert list(done.kept) == ["conv2"]
    assert re.fullmatch(r"int8 changes \d+% of it", done.kept["conv2"])
    np.testing.assert_allclose(maps(done.path, spots()[:2]), maps(graph, spots()[:2]), atol=0.02)


@exact_int8
def test_symmetric_int8_for_tensorrt_and_uint8_otherwise(tmp_path: Path) -> None:
    graph = save_network(tmp_path / "small.onnx")
    kinds = {}
    for symmetric in (True, False):
        done = convert(graph, tmp_path / "low.onnx", "int8", calibration=batches(), symmetric=symmetric)
        constants = {tensor.name: tensor for tensor in onnx.load(done.path).graph.initializer}
        zero = onnx.numpy_helper.to_array(constants["centred.zero"])
        kinds[symmetric] = (zero.dtype.name, int(zero))
    assert kinds[True] == ("int8", 0)
    assert kinds[False][0] == "uint8"
    assert 100 < kinds[False][1] < 150  # the input goes from -120 to 135


def test_int8_requires_images_and_finite_values(tmp_path: Path) -> None:
    graph = save_network(tmp_path / "small.onnx")
    with pytest.raises(PrecisionError, match="needs calibration images"):
        convert(graph, tmp_path / "low.onnx", "int8")
    with pytest.raises(PrecisionError, match="no numbers on the calibration images"):
        convert(graph, tmp_path / "low.onnx", "int8", calibration=[{"images": images() * np.float32("nan")}])
    assert not (tmp_path / "low.onnx").exists()


def test_a_branch_gets_fp32_values_of_lower_precision_nodes(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        ports = [helper.make_tensor_value_info(f"{name}_b", TensorProto.FLOAT, ["n", 8, 32, 24])]
        return helper.make_graph([helper.make_node(op, ["a"], [f"{name}_b"])], name, [], ports)

    choose = helper.make_node(
        "If", ["yes"], ["b"], name="choose", then_branch=branch("then", "Relu"), else_branch=branch("else", "Neg")
    )
    width = [
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Gather", ["shape", "three"], ["width"]),
        helper.make_node("Equal", ["width", "wide"], ["yes"]),
    ]
    numbers = {"three": np.array(3), "wide": np.array(24)}
    graph = save_network(tmp_path / "small.onnx", [*width, choose], constants=numbers)
    done = convert(graph, tmp_path / "low.onnx", "fp16")
    assert done.kept["choose"] == "runs a graph of its own"
    expected = maps(graph, images())
    np.testing.assert_allclose(maps(done.path, images()), expected, atol=2e-3 * np.abs(expected).max())


def test_old_graphs_are_upgraded_to_an_opset_with_the_type(tmp_path: Path) -> None:
    graph = save_network(tmp_path / "small.onnx", opset=9)
    convert(graph, tmp_path / "low.onnx", "bf16")
    assert onnx.load(tmp_path / "low.onnx").opset_import[0].version == 22


@pytest.mark.parametrize(
    ("text", "precision", "says"),
    [
        ("not a graph", "fp16", "small.onnx is not an ONNX graph"),
        ("", "fp8", "'fp8' is not one of fp32, bf16, fp16"),
    ],
)
def test_conversion_errors_are_reported_and_leave_no_files(
    text: str, precision: Precision, says: str, tmp_path: Path
) -> None:
    (tmp_path / "small.onnx").write_text(text, "utf-8")
    with pytest.raises(PrecisionError, match=says):
        convert(tmp_path / "small.onnx", tmp_path / "low.onnx", precision)
    assert not (tmp_path / "low.onnx").exists()
