"""The measured networks, as torch modules and as graphs, with the number of operations per image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engines.build.checkpoint.export import export_onnx
from engines.build.checkpoint.published import PUBLISHED
from engines.build.precision.convert import convert
from engines.networks import build_network
from engines.runtimes import PixelInput
from engines.runtimes.onnxruntime.graphs import prepare
from tests.engines.networks.recipe import fill

_GAINS = MappingProxyType({"simple-baseline-r50": 0.75, "higherhrnet-w32": 0.5})
"""The gain of the recipe weights: activations neither grow nor vanish (../shared/goldens/README.md, section 1)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A network. module: in float32 on the CPU, None where there is only the graph. entry: lines of a catalogue file
    that say how it is served, without its name, source and input; "" where it is not served by itself.
    """

    name: str
    graph: Path
    pixels: PixelInput
    module: nn.Module | None
    entry: str = ""

    def flops(self) -> float:
        """Operations per image; of a graph alone, those of its convolutions. A product and a sum are two."""
        if self.module is not None:
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                self.module(torch.zeros(1, 3, self.pixels.height, self.pixels.width))
            return float(counter.get_total_flops())
        graph = prepare(onnx.load(self.graph), self.pixels).graph
        kernels = {tensor.name: math.prod(tensor.dims[1:]) for tensor in graph.initializer}
        values = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        sides = [math.prod(side.dim_value for side in values[node.output[0]][1:]) for node in convolutions]
        return 2.0 * float(sum(n * kernels[node.input[1]] for n, node in zip(sides, convolutions, strict=True)))

    def in_precision(self, precision: str, folder: Path) -> Path:
        """The graph for ONNX Runtime, which computes in the types that a graph declares. precision: fp32 or fp16."""
        if precision == "fp32":
            return self.graph
        return convert(self.graph, folder / f"{self.name}-{precision}.onnx", "fp16").path

    def catalogue(self, path: Path) -> Path:
        """A catalogue file at `path` with this one model, applied to whole frames."""
        mean, std = list(self.pixels.mean), list(self.pixels.std)
        size = f'width = {self.pixels.width}, height = {self.pixels.height}, order = "{self.pixels.order}"'
        path.write_text(
            f'[models.{self.name}]\n{self.entry}\nsource = {{ kind = "file", path = "{self.graph}" }}\n'
            f"input = {{ {size}, mean = {mean}, std = {std} }}\n",
            encoding="utf-8",
        )
        return path


def published(name: str, folder: Path) -> Subject:
    """One of the papers' networks with recipe weights."""
    made = PUBLISHED[name]
    with torch.device("meta"):
        hollow = build_network(name)
    module = made.served(fill(hollow, _GAINS[name]))
    path = folder / f"{name}.onnx"
    export_onnx(module, path, height=made.pixels.height, width=made.pixels.width, outputs=made.outputs)
    entry = f'role = "{made.role}"\nfamily = "{made.family}"\nskeleton = "coco-17"'
    return Subject(name, path, made.pixels, module, entry)


def detector(weights: Path) -> Subject:
    """RTMDet-nano with its publisher's weights."""
    pixels = PixelInput(320, 320, "bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), 114)
    return Subject("rtmdet-nano", weights / "rtmdet_nano.onnx", pixels, None)


def tiny(folder: Path) -> Subject:
    """Two convolutions, for tests on a CPU."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 17, 3, 2, 1)]
    module, pixels = nn.Sequential(*layers).eval(), PixelInput(64, 48, "rgb", (120, 120, 120), (60, 60, 60))
    path = folder / "tiny.onnx"
    export_onnx(module, path, height=pixels.height, width=pixels.width, outputs=("heatmaps",))
    entry = 'role = "estimator"\nfamily = "heatmap"\nskeleton = "coco-17"'
    return Subject("tiny", path, pixels, module, entry)


def subjects(weights: Path, folder: Path) -> Mapping[str, Callable[[], Subject]]:
    """The networks for measuring a GPU. weights: the folder of published weights."""
    makers: dict[str, Callable[[], Subject]] = {
        name: lambda name=name: published(name, folder)  # type: ignore[misc]  # the default binds the name
        for name in _GAINS
    }
    return makers | {"rtmdet-nano": lambda: detector(weights)}
