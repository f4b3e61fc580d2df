"""Cuts non-maximum suppression off detector graphs; the model's family then does it.

The number of boxes that suppression leaves depends on the image. A plan with such an output cannot be captured as a
CUDA graph, and TensorRT-RTX does not implement suppression.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.build.onnx.graphs import opset_of
from engines.runtimes.onnxruntime.graphs import prune, refill

_CANDIDATES = 1000
_MOST_CHOSEN = 3840  # TensorRT's largest K
_LABEL = 0  # a person, in COCO's order
_DETECTOR = {"dets", "labels"}
_OPSET = 13  # from here on axes are inputs


def cut_suppression(model: ModelProto) -> ModelProto:
    """Cut a detector exported by MMDeploy before its suppression, so that it gives the best candidates for people.

    Its outputs keep their names and meaning: `dets` (n, k, 5) x1, y1, x2, y2, score, best first, and `labels` (n, k),
    all of people; k is 1000 or the number of candidates, whichever is smaller. Any other graph is returned unchanged.
    """
    suppressions = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    outputs = {value.name for value in model.graph.output}
    if len(suppressions) != 1 or outputs != _DETECTOR:
        return model
    boxes, scores = suppressions[0].input[:2]  # (n, candidates, 4) and (n, classes, candidates) by ONNX's definition
    if opset_of(model) < _OPSET:
        cut = onnx.version_converter.convert_version(model, _OPSET)
    else:
        cut = ModelProto()
        cut.CopyFrom(model)
    graph = cut.graph
    prune(graph, (boxes, scores))
    _bound_choices(graph)
    graph.node.extend(_best_people(boxes, scores))
    graph.initializer.extend(_constants())
    del graph.value_info[:]
    dets = helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["n", "k", 5])
    refill(graph.output, [dets, helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", "k"])])
    return cut


def _bound_choices(graph: GraphProto) -> None:
    """Bound the TopK nodes before the suppression to the largest k that TensorRT supports."""
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "TopK":
            bounded = f"{node.name or node.output[0]}/bounded"
            nodes.append(helper.make_node("Min", [node.input[1], "cut/limit"], [bounded], name=bounded))
            node.input[1] = bounded
        nodes.append(node)
    refill(graph.node, nodes)


def _best_people(boxes: str, scores: str) -> list[NodeProto]:
    node = helper.make_node
    return [
        node("Gather", [scores, "cut/person"], ["cut/scores"], axis=1, name="cut/scores"),  # (n, candidates)
        node("Shape", ["cut/scores"], ["cut/shape"], name="cut/shape"),
        node("Gather", ["cut/shape", "cut/one"], ["cut/there"], axis=0, name="cut/there"),
        node("Min", ["cut/there", "cut/most"], ["cut/k"], name="cut/k"),
        node("TopK", ["cut/scores", "cut/k"], ["cut/best", "cut/positions"], axis=1, name="cut/best"),
        node("Unsqueeze", ["cut/positions", "cut/last"], ["cut/rows"], name="cut/rows"),
        node("Expand", ["cut/rows", "cut/corners"], ["cut/four"], name="cut/four"),
        node("GatherElements", [boxes, "cut/four"], ["cut/boxes"], axis=1, name="cut/boxes"),
        node("Unsqueeze", ["cut/best", "cut/last"], ["cut/column"], name="cut/column"),
        node("Concat", ["cut/boxes", "cut/column"], ["dets"], axis=2, name="cut/dets"),
        node("Mul", ["cut/positions", "cut/zero"], ["labels"], name="cut/labels"),
    ]


def _constants() -> list[TensorProto]:
    values = {
        "person": np.array(_LABEL, np.int64),
        "one": np.array([1], np.int64),
        "zero": np.array(_LABEL, np.int64),
        "most": np.array([_CANDIDATES], np.int64),
        "limit": np.array([_MOST_CHOSEN], np.int64),
        "last": np.array([-1], np.int64),
        "corners": np.array([1, 1, 4], np.int64),
    }
    return [numpy_helper.from_array(array, f"cut/{name}") for name, array in values.items()]
