"""The papers' networks as torch modules, for published checkpoints and their export. Needs posewire[torch]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import nn

from engines.networks.cpn import CPN
from engines.networks.higher_hrnet import HigherHRNet
from engines.networks.hourglass import StackedHourglass
from engines.networks.hrnet import HRNet
from engines.networks.simple_baseline import SimpleBaseline

__all__ = ["NETWORKS", "build_network"]

NETWORKS: Mapping[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "simple-baseline-r50": partial(SimpleBaseline, 50),
        "simple-baseline-r101": partial(SimpleBaseline, 101),
        "simple-baseline-r152": partial(SimpleBaseline, 152),
        "hrnet-w32": partial(HRNet, 32),
        "hrnet-w48": partial(HRNet, 48),
        "higherhrnet-w32": partial(HigherHRNet, 32),
        "higherhrnet-w48": partial(HigherHRNet, 48),
        "hourglass-8": partial(StackedHourglass, 8),
        "cpn-r50": partial(CPN, 50),
    }
)
"""By name, a function from the number of keypoints to a module with random weights."""


def build_network(name: str, num_keypoints: int | None = None) -> nn.Module:
    """A network with random weights: (n, 3, h, w) float32 images in, one tensor or a tuple of them out.

    num_keypoints: None takes the number of the published checkpoints: COCO's 17, or MPII's 16 for the hourglass.
    The keys and shapes of the state_dict then equal those of the checkpoints.
    Raises ValueError for a name that is not in NETWORKS and for fewer than one keypoint.
    """
    if name not in NETWORKS:
        raise ValueError(f"network {name!r} is not one of {', '.join(NETWORKS)}")
    if num_keypoints is None:
        num_keypoints = 16 if name == "hourglass-8" else 17
    if num_keypoints < 1:
        raise ValueError(f"a network has at least one keypoint, not {num_keypoints}")
    return NETWORKS[name](num_keypoints)
