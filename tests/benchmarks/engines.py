"""The fastest runtime on this machine: python -m tests.benchmarks engines [--json FILE]

SimpleBaseline-R50 256x192 with recipe weights, crops per second at each batch size: OpenVINO in fp32, bf16 and int8,
torch itself, and as peer ONNX Runtime in fp32, alternating in one run; medians. `computes in` is the precision of the
convolutions, as reported by OpenVINO. Goals are those for a CPU with AMX. Without it, the peak is twice that of fp32 in
bf16 (avx512_bf16) and four times in int8 (VNNI). The loss of AP in int8 is measured on real images (needs ../shared):
Simple Pose, calibrated on frames of PoseTrack and on four COCO images that are not among the 32 of the AP; as peer,
quantised by onnxruntime.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import openvino as ov
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from engines.build.accuracy_gate.evaluation_images import as_inputs, crops_of_images
from engines.build.accuracy_gate.gate import compare
from engines.build.checkpoint.export import INPUT, export_onnx
from engines.build.checkpoint.published import PUBLISHED
from engines.build.crop_decoder import crop_decoder
from engines.build.precision.convert import convert
from engines.catalogue import Catalogue, load
from engines.inputs import Arrays
from engines.networks import build_network
from engines.runtimes import open_runtime
from tests.benchmarks.accuracy import evaluate
from tests.benchmarks.goals import goal
from tests.benchmarks.report import Row, main, table
from tests.engines.networks.recipe import fill, images
from tests.shared import SHARED, weights_catalogue

_NAME = "simple-baseline-r50"
_GAIN = 0.75  # of the recipe, for this network
_RUNGS = (1, 2, 4, 8)
_ROUNDS = 5
_MODEL = "simplepose"
_INT8, _PEER = f"{_MODEL}-int8", f"{_MODEL}-int8-onnxruntime"
_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime of the network. callers: number of concurrent batches that it needs."""

    name: str
    run: Callable[[Arrays], object]
    callers: int
    computes_in: str = "fp32"

    def rate(self, batch: Arrays) -> float:
        """Crops per second, over all callers."""
        with ThreadPoolExecutor(self.callers) as pool:
            started = time.perf_counter()
            list(pool.map(self.run, [batch] * self.callers))
            taken = time.perf_counter() - started
        return len(batch[INPUT]) * self.callers / taken


def engines(graph: Path, module: torch.nn.Module, folder: Path) -> list[Engine]:
    """All available runtimes, compiled from the same graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    made = [Engine("ONNX Runtime fp32", lambda feeds: session.run(None, dict(feeds)), 1)]
    made.append(Engine("torch fp32", lambda feeds: _eager(module, feeds), 1))
    quantised = convert(graph, folder / "int8.onnx", "int8", calibration=[{INPUT: images(8, 3, 256, 192).numpy()}])
    for name, path, precision in (("fp32", graph, "fp32"), ("bf16", graph, "bf16"), ("int8", quantised.path, "fp32")):
        try:
            runtime = open_runtime(path, precision=precision, max_batch=_RUNGS[-1])
        except ValueError:  # a CPU without bf16
            continue
        made.append(Engine(f"OpenVINO {name}", runtime.run, runtime.spec.concurrency, execution_types(path, precision)))
    return made


def _eager(module: torch.nn.Module, feeds: Arrays) -> object:
    with torch.inference_mode():
        return module(torch.from_numpy(feeds[INPUT]))


def execution_types(graph: Path, precision: str) -> str:
    """The precisions of the convolutions in the compiled graph, and their numbers."""
    core = ov.Core()
    hint = {"fp32": "f32"}.get(precision, precision)
    compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    kinds = Counter(
        info["primitiveType"].value.rsplit("_", 1)[-1].lower()
        for info in nodes
        if info["layerType"].value in ("Convolution", "Deconvolution")
    )
    return ", ".join(f"{kind} x {count}" for kind, count in kinds.most_common())


def speed(folder: Path) -> list[Row]:
    """A row per runtime, followed by the goals."""
    with torch.device("meta"):
        network = build_network(_NAME)
    published = PUBLISHED[_NAME]
    graph = folder / f"{_NAME}.onnx"
    module = published.served(fill(network, gain=_GAIN)).eval()
    export_onnx(module, graph, height=256, width=192, outputs=published.outputs)
    made = engines(graph, module, folder)
    batches = {batch_size: {INPUT: images(batch_size, 3, 256, 192).numpy()} for batch_size in _RUNGS}
    rates: dict[tuple[str, int], list[float]] = {(e.name, batch_size): [] for e in made for batch_size in _RUNGS}
    for turn in range(_ROUNDS + 1):
        for batch_size, batch in batches.items():
            for engine in made:
                rate = engine.rate(batch)
                if turn:  # the first round warms up
                    rates[engine.name, batch_size].append(rate)
    medians = {key: float(np.median(values)) for key, values in rates.items()}
    rows: list[Row] = [
        {"engine": e.name, "computes in": e.computes_in}
        | {f"crops/s at {batch_size}": round(medians[e.name, batch_size], 1) for batch_size in _RUNGS}
        for e in made
    ]
    best = {e.name: max(medians[e.name, batch_size] for batch_size in _RUNGS) for e in made}
    peer = best["ONNX Runtime fp32"]
    goals = [
        goal(
            f"OpenVINO {name} over ONNX Runtime fp32, each at its best batch size",
            best[f"OpenVINO {name}"] / peer,
            ">",
            bound,
        )
        for name, bound in (("bf16", 3.5), ("int8", 6.0))
        if f"OpenVINO {name}" in best
    ]
    return [*rows, *goals]


def accuracy(folder: Path) -> list[Row]:
    """AP of a real network in each precision, and the accuracy gate's verdict."""
    catalogue = load([weights_catalogue(folder), int8_catalogue(folder)])
    rows = [evaluate(catalogue, _MODEL, precision, full_size=True) for precision in ("fp32", "auto")]
    for name, precision in ((_INT8, "int8"), (_PEER, "int8 by onnxruntime")):
        rows.append(evaluate(catalogue, name, "fp32", full_size=True) | {"precision": precision})
        rows[-1]["gate"] = gate(catalogue, name)
    loss = rows[0]["AP"] - rows[-2]["AP"]
    return [*rows, goal("AP that int8 loses, of Simple Pose", loss, "<", 0.01)]


def int8_catalogue(folder: Path) -> Path:
    """A catalogue with the model's int8 twins, ours and that of onnxruntime."""
    catalogue = load([weights_catalogue(folder)])
    model = catalogue[_MODEL]
    calibration = folder / "calibration"
    calibration.mkdir()
    listed = json.loads((SHARED / "data/coco/person_keypoints.json").read_bytes())["images"]
    pictures = [SHARED / "data/coco" / image["file_name"] for image in listed[:4]]  # those that `evaluate` leaves out
    pictures += sorted((SHARED / "data/posetrack").rglob("*.jpg"))[::4]
    for number, picture in enumerate(pictures):
        (calibration / f"{number:02}{picture.suffix}").symlink_to(picture)
    inputs = as_inputs(model.fetch(), crops_of_images(calibration, model, catalogue), model.input)
    convert(model.fetch(), folder / f"{_INT8}.onnx", "int8", calibration=inputs)
    quantise_by_onnxruntime(model.fetch(), folder / f"{_PEER}.onnx", inputs)
    entry = weights_catalogue(folder).read_text("utf-8").split(f"[models.{_MODEL}]")[1].split("[models.")[0]
    lines = [line for line in entry.splitlines() if not line.startswith(("source", "files"))]
    path = folder / "int8.toml"
    twins = [
        [f"[models.{name}]", f'source = {{ kind = "file", path = "{name}.onnx" }}', *lines] for name in (_INT8, _PEER)
    ]
    path.write_text("\n".join(line for twin in twins for line in twin), "utf-8")
    return path


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands batches to onnxruntime."""

    def __init__(self, batches: Sequence[Arrays]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Arrays | None:
        """The next batch, None at the end."""
        return next(self._batches, None)


def quantise_by_onnxruntime(graph: Path, out: Path, calibration: Sequence[Arrays]) -> None:
    """Quantise the same operators with the same images by onnxruntime.quantization."""
    prepared = out.with_suffix(".fp32.onnx")
    convert(graph, prepared, "fp32")  # folds batch norms, as for ours
    quantize_static(
        prepared,
        out,
        _Reader(calibration),
        op_types_to_quantize=list(_OPERATORS),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": list(_OPERATORS)},
    )


def gate(catalogue: Catalogue, name: str) -> str:
    """The accuracy gate's verdict on the int8 twin `name`, on crops of the images of the AP."""
    model, quantised = catalogue[_MODEL], catalogue[name]
    crops = crops_of_images(SHARED / "data/coco", model, catalogue)
    runtimes = [open_runtime(m.fetch(), precision="fp32", pixels=m.input) for m in (model, quantised)]
    [port] = runtimes[0].spec.inputs
    batches = [{port.name: crop[None]} for crop in crops]
    report = compare(runtimes[0].run, runtimes[1].run, batches, crop_decoder(model), "int8")
    return f"{report}, distance {report.distance}, lost {report.lost}, gained {report.gained}"


def run() -> list[Row]:
    """Measure speed, and accuracy if there are real images."""
    with tempfile.TemporaryDirectory() as folder:
        rows = speed(Path(folder))
    if SHARED.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            rows += accuracy(Path(folder))
    return rows


def tables(rows: list[Row]) -> str:
    """Format speed, accuracy and goals."""
    return "\n\n".join(table([row for row in rows if key in row]) for key in ("engine", "model", "goal"))


if __name__ == "__main__":
    main(run, tables)
