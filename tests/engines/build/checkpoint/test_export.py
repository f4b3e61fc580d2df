"""Torch to ONNX: a graph that takes any batch and is checked against the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch
from torch import Tensor, nn

from engines.build.checkpoint.export import ExportError, export_onnx
from engines.runtimes import open_runtime


class Tiny(nn.Module):
    """A convolution, upsampled, and its mean, with `spoil` between them."""

    def __init__(self, spoil: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.spoil = spoil

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.spoil(self.conv(images))
        return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True), x.mean(dim=(2, 3))


def test_a_graph_takes_any_batch_and_its_outputs_are_named(tmp_path: Path) -> None:
    network = Tiny().eval()
    path = tmp_path / "tiny.onnx"
    assert export_onnx(network, path, height=32, width=24, outputs=("maps", "means")) <= 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]

    runtime = open_runtime(path, precision="fp32", max_batch=4)
    images = torch.randn(3, 3, 32, 24)
    given = runtime.run({"images": images.numpy()})
    runtime.close()
    with torch.inference_mode():
        maps, means = network(images)
    torch.testing.assert_close(torch.from_numpy(given["maps"]), maps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(given["means"]), means, rtol=1e-4, atol=1e-5)


def drifting() -> Callable[[Tensor], Tensor]:
    """Increases its output with every call, which an exported graph cannot reproduce."""
    calls: list[None] = []

    def spoil(x: Tensor) -> Tensor:
        calls.append(None)
        return x * len(calls)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drifting(), "differs from the network by"),
        (lambda x: x * float("nan"), "its weights are broken"),
        (lambda x: x - x.mean(dim=0, keepdim=True), "mixes the images of a batch"),
    ],
    ids=["another result", "not a number", "neighbours in the batch"],
)
def test_a_graph_that_differs_from_the_network_is_refused_and_leaves_no_file(
    spoil: Callable[[Tensor], Tensor], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=says):
        export_onnx(Tiny(spoil).eval(), tmp_path / "tiny.onnx", height=32, width=24, outputs=("maps", "means"))
    assert not list(tmp_path.iterdir())
