"""tfjs GraphModels become GraphDefs that OpenVINO reads and computes as the definition of the graph says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from engines.catalogue.tfjs import ConversionError, Cut, convert
from tests.shared import SHARED, needs_shared
from tests.tfjs import KERNEL, constant, node, placeholder, save_graph_model, small_graph, small_heads

HEADS = Cut(input="half", shape=(-1, 4, 6, 3), outputs={"heads": "heads"})


def run(graph: bytes, feed: NDArray[Any], folder: Path) -> dict[str, NDArray[Any]]:
    """The outputs of a GraphDef in fp32, by their names."""
    path = folder / "graph.pb"
    path.write_bytes(graph)
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled([feed])
    return {
        name.removesuffix(":0"): outputs[port] for port in compiled.outputs for name in port.get_names() if ":0" in name
    }


def images(count: int, height: int = 4, width: int = 6) -> NDArray[np.int32]:
    return np.random.default_rng(1).integers(0, 9, (count, height, width, 3), np.int32)


def test_the_whole_graph_gives_what_its_operators_say(tmp_path: Path) -> None:
    image = images(1)
    outputs = run(convert(save_graph_model(tmp_path, *small_graph())), image, tmp_path)
    largest = small_heads(image.astype(np.float32) / 2).max(axis=(1, 2))
    np.testing.assert_allclose(outputs["Identity"], largest, rtol=1e-5)


def test_a_cut_at_the_heads_takes_any_batch_and_gives_them_new_names(tmp_path: Path) -> None:
    half = images(3).astype(np.float32) / 2
    cut = Cut(input="half", shape=(-1, 4, 6, 3), outputs={"found": "heads"})
    outputs = run(convert(save_graph_model(tmp_path, *small_graph()), cut), half, tmp_path)
    assert "Identity" not in outputs
    np.testing.assert_allclose(outputs["found"], small_heads(half), rtol=1e-5, atol=1e-6)


def test_resizes_follow_the_input_to_another_size(tmp_path: Path) -> None:
    image = images(1, 8, 18)
    cut = Cut(input="input", shape=(1, 8, 18, 3), outputs={"large": "large"})
    outputs = run(convert(save_graph_model(tmp_path, *small_graph()), cut), image, tmp_path)
    large = small_heads(image.astype(np.float32) / 2).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(outputs["large"], large, rtol=1e-5, atol=1e-6)


def test_a_size_that_the_graph_cannot_have_is_refused(tmp_path: Path) -> None:
    nodes, weights = small_graph()
    weights["size"] = np.array([2, 3], np.int32)
    topology = save_graph_model(tmp_path, nodes, weights)
    with pytest.raises(ConversionError, match=r"node large .*cannot have the size 5 x 6"):
        convert(topology, Cut(input="input", shape=(1, 5, 6, 3)))


@pytest.mark.parametrize(("kind", "near"), [("float16", 1e-3), ("uint8", 2e-2), ("uint16", 1e-4)])
def test_quantised_weights_in_several_files_are_expanded(tmp_path: Path, kind: str, near: float) -> None:
    half = images(1).astype(np.float32) / 2
    topology = save_graph_model(tmp_path, *small_graph(), packed={"kernel": kind}, shards=3)
    outputs = run(convert(topology, HEADS), half, tmp_path)
    assert 0 < np.abs(outputs["heads"] - small_heads(half)).max() < 10 * near


def test_quantised_whole_numbers_are_rounded(tmp_path: Path) -> None:
    nodes, weights = small_graph()
    topology = save_graph_model(tmp_path, nodes, weights, packed={"size": "uint8"})
    outputs = run(convert(topology, Cut(outputs={"large": "large"})), images(1), tmp_path)
    assert outputs["large"].shape == (1, 8, 12, 4)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("Relu", lambda x: np.maximum(x, 0)),
        ("Elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("LeakyRelu", lambda x: np.where(x > 0, x, 0.25 * x)),
    ],
)
def test_fused_activations_are_separated(tmp_path: Path, step: str, expected: Any) -> None:
    nodes, weights = small_graph()
    fused = next(one for one in nodes if one["name"] == "heads")
    fused["attr"]["fused_ops"]["list"]["s"] = [list(b"BiasAdd"), list(step.encode())]  # as tfjs-converter 0.8 did
    fused["attr"]["leakyrelu_alpha"] = {"f": 0.25}
    half = np.random.default_rng(3).normal(size=(1, 4, 6, 3)).astype(np.float32)
    outputs = run(convert(save_graph_model(tmp_path, nodes, weights), HEADS), half, tmp_path)
    np.testing.assert_allclose(outputs["heads"], expected(half @ KERNEL[0, 0] + weights["bias"]), rtol=1e-4, atol=1e-5)


def change(topology: Path, **changes: Any) -> None:
    document = json.loads(topology.read_text())
    topology.write_text(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model.json is no tfjs GraphModel .file: Invalid JSON"),
        ('{"modelTopology": {"node": [', "Invalid JSON"),
        ("[]", "model.json is no tfjs GraphModel"),
        ('{"modelTopology": {"model_config": {}}, "weightsManifest": []}', "modelTopology node: Field required"),
        (
            '{"modelTopology": {"node": [{"name": "a"}]}, "weightsManifest": []}',
            "modelTopology node 0 op: Field required",
        ),
        ('{"modelTopology": {"node": []}, "weightsManifest": [{"paths": ["a"]}]}', "weightsManifest 0 weights"),
    ],
)
def test_other_files_are_refused_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    topology = tmp_path / "model.json"
    topology.write_text(text)
    with pytest.raises(ConversionError, match=message):
        convert(topology)


def test_missing_cut_and_too_long_weights_are_named(tmp_path: Path) -> None:
    topology = save_graph_model(tmp_path, *small_graph(), shards=2)
    shard = tmp_path / "group1-shard2of2.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole + b"\0")
    with pytest.raises(ConversionError, match="1 bytes are left over"):
        convert(topology)
    shard.write_bytes(whole[:-1])
    with pytest.raises(ConversionError, match="ends within the weight axis"):
        convert(topology)
    shard.unlink()
    with pytest.raises(ConversionError, match=r"model.json needs its weights .*group1-shard2of2.bin beside it"):
        convert(topology)


def test_weights_of_another_type_or_without_a_value_are_named(tmp_path: Path) -> None:
    nodes, weights = small_graph()
    with pytest.raises(ConversionError, match=r"node size .*it is float32 in the manifest"):
        convert(save_graph_model(tmp_path, nodes, weights | {"size": np.array([8, 12], np.float32)}))
    del weights["bias"]
    with pytest.raises(ConversionError, match=r"node bias .*no weight"):
        convert(save_graph_model(tmp_path, nodes, weights))
    topology = save_graph_model(tmp_path, *small_graph())
    topology.write_text(topology.read_text().replace('"dtype": "bool"', "").replace('"float32"', '"string"', 1))
    with pytest.raises(ConversionError, match="weightsManifest 0 weights 0 dtype"):
        convert(topology)


@pytest.mark.parametrize("op", ["While", "StatefulPartitionedCall", "Prelu"])
def test_operators_that_have_no_equal_are_refused(tmp_path: Path, op: str) -> None:
    nodes, weights = small_graph()
    topology = save_graph_model(tmp_path, [*nodes, node("last", op, ["Identity"])], weights)
    with pytest.raises(ConversionError, match=f"node last .{op}.: it is not supported"):
        convert(topology)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"fused_ops": {"list": {"s": ["U3dpc2g="]}}}, "heads .*Swish, which is fused into it, is not supported"),
        ({"fused_ops": {}}, "heads .*'list' is missing"),
        ({"strides": {"tensor": {}}}, "heads .*an attribute of kind tensor is not supported"),
        ({"strides": {"list": {"i": ["one"]}}}, "heads .*invalid literal"),
        ({"T": {"type": "DT_COMPLEX64"}}, "heads .*type DT_COMPLEX64 is not supported"),
    ],
)
def test_malformed_nodes_are_named(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    nodes, weights = small_graph()
    next(one for one in nodes if one["name"] == "heads")["attr"] |= attributes
    with pytest.raises(ConversionError, match=message):
        convert(save_graph_model(tmp_path, nodes, weights))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (Cut(outputs={"a": "nowhere"}), "the graph has no node nowhere"),
        (Cut(input="nowhere", shape=(1,)), "do not depend on the input nowhere"),
        (Cut(input="large", shape=(-1, 8, 12, 4), outputs={"a": "heads"}), "do not depend on the input large"),
        (Cut(outputs={"kernel": "heads"}), "kernel is the name of another node"),
        (Cut(input="second", shape=(1,), outputs={"a": "both"}), "also depend on input, not on second alone"),
    ],
)
def test_cuts_that_do_not_fit_the_graph_are_refused(tmp_path: Path, cut: Cut, message: str) -> None:
    nodes, weights = small_graph()
    more = [placeholder("second", "DT_FLOAT", 1), node("both", "AddV2", ["half", "second"], T={"type": "DT_FLOAT"})]
    with pytest.raises(ConversionError, match=message):
        convert(save_graph_model(tmp_path, [*nodes, *more], weights), cut)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"input": "a"}, "input: needs a shape"),
        ({"shape": [1]}, "input: needs a shape"),
        ({"input": "a", "shape": [0, 3]}, "its sides must be whole numbers from 1 on"),
        ({"input": "a", "shape": ["3"]}, "valid integer"),
        ({"outputs": {"x": "a", "y": "a"}}, "outputs: two of them are the same node"),
        ({"outputs": {"x": 1}}, "valid string"),
        ({"inputs": "a"}, "Unexpected keyword"),
        ({"kind": "caffe"}, "tfjs"),
    ],
)
def test_invalid_tables_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Cut).validate_python(table)


def test_a_table_becomes_a_cut_that_is_read_only_and_can_be_a_key() -> None:
    cut = TypeAdapter(Cut).validate_python({"input": "a", "shape": [-1, 3], "outputs": {"x": "b"}})
    assert cut == Cut(input="a", shape=(-1, 3), outputs={"x": "b"})
    assert len({cut, Cut(input="a", shape=(-1, 3), outputs={"x": "b"})}) == 1
    with pytest.raises(TypeError):
        cut.outputs["y"] = "c"  # type: ignore[index]


@needs_shared
def test_a_graph_converted_by_the_reference_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = SHARED / "tools/tfjs_to_pb.py"
    if not tool.is_file():
        pytest.skip("needs ../shared/tools/tfjs_to_pb.py")
    monkeypatch.syspath_prepend(tool.parent)
    reference = __import__(tool.stem)
    topology = save_graph_model(tmp_path, *small_graph(), packed={"kernel": "float16"})
    image = images(1)
    for_reference = run(reference.convert(topology), image, tmp_path)
    assert run(convert(topology), image, tmp_path)["Identity"].tolist() == for_reference["Identity"].tolist()
    del sys.modules[tool.stem]


def test_an_unread_constant_is_an_output_of_the_whole_graph(tmp_path: Path) -> None:
    nodes, weights = small_graph()
    weights["flag"] = np.array(True)
    assert b"flag" in convert(save_graph_model(tmp_path, [*nodes, constant("flag", weights)], weights))
