"""The input that the authors' checkpoints of each architecture expect, and the output that is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from torch import Tensor, nn

from engines.catalogue import Role
from engines.inputs import PixelInput

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


class FinalHeatmaps(nn.Module):
    """Wraps a network with several outputs to give only the last, as (n, K, h, w) heatmaps whose peaks are 1."""

    def __init__(self, network: nn.Module, *, peak: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self._peak = peak

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) to the last heatmaps of a tuple, or of the stacks in (n, stacks, K, h, w)."""
        given = self.network(images)
        last = given[-1] if isinstance(given, tuple) else given[:, -1]
        return last if self._peak == 1.0 else last / self._peak


@dataclass(frozen=True, slots=True)
class Published:
    """How checkpoints of an architecture are served.

    outputs: the names of the exported graph's outputs. peak: the value of a heatmap's peak if only the last of several
    outputs is served; None if all outputs are served unchanged. side: input sides must be multiples of it.
    options: the options of the family, for the catalogue.
    """

    role: Role
    family: str
    outputs: tuple[str, ...]
    pixels: PixelInput
    peak: float | None = None
    side: int = 32
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def served(self, network: nn.Module) -> nn.Module:
        return network if self.peak is None else FinalHeatmaps(network, peak=self.peak).eval()


def _top_down(pixels: PixelInput, peak: float | None = None, side: int = 32) -> Published:
    return Published("estimator", "heatmap", ("heatmaps",), pixels, peak, side)


def _bottom_up(side: int) -> Published:
    pixels = PixelInput(side, side, "rgb", _IMAGENET_MEAN, _IMAGENET_STD)
    return Published("bottom-up", "associative_embedding", ("out_low", "out_high"), pixels)


# OpenCV's BGR with the means of RGB, as the authors trained it (COLOR_RGB: false in their later configurations).
_SIMPLE_BASELINE = _top_down(PixelInput(256, 192, "bgr", _IMAGENET_MEAN, _IMAGENET_STD))
_HRNET = _top_down(PixelInput(256, 192, "rgb", _IMAGENET_MEAN, _IMAGENET_STD))
_CPN = replace(
    _top_down(PixelInput(256, 192, "rgb", (122.7717, 115.9465, 102.9801), (255, 255, 255), pad=114), peak=255.0),
    options={"refinement": "blurred"},
)
_HOURGLASS = _top_down(PixelInput(256, 256, "rgb", (0, 0, 0), (255, 255, 255)), peak=1.0, side=64)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "simple-baseline-r50": _SIMPLE_BASELINE,
        "simple-baseline-r101": _SIMPLE_BASELINE,
        "simple-baseline-r152": _SIMPLE_BASELINE,
        "hrnet-w32": _HRNET,
        "hrnet-w48": _HRNET,
        "higherhrnet-w32": _bottom_up(512),
        "higherhrnet-w48": _bottom_up(640),
        "hourglass-8": _HOURGLASS,
        "cpn-r50": _CPN,
    }
)
"""By the names of `engines.networks.NETWORKS`."""
