"""Rewrites graphs in fp16 and bf16 so that a CPU computes them as a GPU does: rounded after every node."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto, helper

from engines.build.onnx.graphs import types_of
from engines.runtimes.onnxruntime.graphs import refill

_LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def round_after_each_node(model: ModelProto) -> ModelProto:
    """A copy of the graph whose nodes in fp16 and bf16 compute in fp32 on rounded inputs and round their outputs.

    So do a GPU's matrix units, which sum up in fp32. ONNX Runtime on a CPU has no kernels for bf16, and computes chains
    of nodes in fp16 without rounding between them.
    """
    low = {name: kind for name, kind in types_of(model).items() if kind in _LOW}
    rounded = ModelProto()
    rounded.CopyFrom(model)
    nodes: list[NodeProto] = []
    raised: dict[str, str] = {}

    def cast(source: str, target: str, kind: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind))

    for node in rounded.graph.node:
        if node.op_type == "Cast":
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name in low:
                if name not in raised:
                    raised[name] = f"{name}/raised"
                    cast(name, raised[name], TensorProto.FLOAT)
                node.input[index] = raised[name]
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in low:
                node.output[index] = f"{name}/exact"
                cast(node.output[index], name, low[name])
    refill(rounded.graph.node, nodes)
    del rounded.graph.value_info[:]
    return rounded
