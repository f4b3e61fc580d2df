"""The candidates of a plan build: the graph in each precision, and its judgement by the accuracy gate."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from engines.build.accuracy_gate.evaluation_images import EvaluationImages, as_inputs
from engines.build.accuracy_gate.gate import GateReport, compare
from engines.build.accuracy_gate.rounding import round_after_each_node
from engines.build.onnx.suppression import cut_suppression
from engines.build.precision.convert import Precision, PrecisionError, convert
from engines.inputs import PixelInput
from engines.plans.find import PlanBuildError, PlanOrder
from engines.runtimes import Runtime, open_runtime
from engines.runtimes.onnxruntime.graphs import prepare


class NotJudgedError(RuntimeError):
    """No runtime on this machine computes the graph as TensorRT will; the message says what is missing."""


class CandidateGraphs:
    """Converts the graph of a plan order to any precision, with pixels folded in and a free batch, in `folder`.

    Raises PlanBuildError for a graph that cannot be read or lacks requested outputs.
    """

    def __init__(self, order: PlanOrder, folder: Path) -> None:
        self._order = order
        self._folder = folder
        self._plain = folder / "plain.onnx"
        try:
            model = prepare(cut_suppression(onnx.load(order.onnx)), outputs=order.outputs)
        except DecodeError as error:
            raise PlanBuildError(f"{order.onnx} is no ONNX graph, or is damaged") from error
        except (ValueError, onnx.shape_inference.InferenceError) as error:
            raise PlanBuildError(f"{order.onnx}: {error}") from error
        onnx.save(model, self._plain)

    def graph(self, precision: Precision, evaluation_images: EvaluationImages | None) -> Path:
        """The path of the graph in this precision, calibrated on the evaluation images. Raises PlanBuildError."""
        converted, complete = (self._folder / f"{precision}-{stage}.onnx" for stage in ("converted", "complete"))
        if complete.exists():
            return complete
        if precision == "int8" and (evaluation_images is None or evaluation_images.digest is None):
            raise PlanBuildError("int8 takes its scales from real images: give a folder of them with --images")
        pixels = self._order.pixels
        try:
            calibration = (
                None
                if evaluation_images is None or pixels is None
                else as_inputs(self._plain, evaluation_images.crops, pixels)
            )
            convert(self._plain, converted, precision, calibration=calibration, symmetric=True)
            onnx.save(prepare(onnx.load(converted), self._order.pixels), complete)
        except (ValueError, PrecisionError, onnx.shape_inference.InferenceError) as error:
            raise PlanBuildError(f"{self._order.onnx}: {error}") from error
        return complete

    def judge(self, precision: Precision, evaluation_images: EvaluationImages, pixels: PixelInput) -> GateReport:
        """Compare the graph in this precision with the same graph in fp32.

        ONNX Runtime computes it on the CPU with the roundings of a GPU, see `round_after_each_node`. Raises
        NotJudgedError if it is not installed or cannot run the graph.
        """
        graph, rounded = self.graph(precision, evaluation_images), self._folder / f"{precision}-rounded.onnx"
        try:
            onnx.save(round_after_each_node(onnx.load(graph)), rounded)
            candidate = open_runtime(rounded, "onnxruntime", precision="fp32", max_batch=1, device="cpu")
        except (ValueError, RuntimeError) as error:
            raise NotJudgedError(str(error)) from error
        with closing(candidate):
            return self.compare(precision, candidate, evaluation_images, pixels)

    def compare(
        self, precision: Precision, candidate: Runtime, evaluation_images: EvaluationImages, pixels: PixelInput
    ) -> GateReport:
        """Compare the outputs of `candidate` with those of the graph in fp32."""
        graph = self.graph("fp32", evaluation_images)
        batches = as_inputs(graph, evaluation_images.crops, pixels)  # one by one, because some graphs take no batch
        with closing(open_runtime(graph, precision="fp32", max_batch=1)) as reference:
            decode, dense = evaluation_images.decode, evaluation_images.dense
            return compare(reference.run, candidate.run, batches, decode, precision, dense=dense)
