"""HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation (Cheng et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.networks.blocks import BasicBlock, doubling_deconv
from engines.networks.hrnet import HRNetBackbone


class HigherHRNet(HRNetBackbone):
    """HRNet with heatmaps and associative-embedding tags at 1/4 of the input, and finer heatmaps at 1/2 (section 3.3).

    Parameters are named as in the authors' pose_higher_hrnet_*.pth.
    """

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__(width)
        with_tags = 2 * num_keypoints
        self.final_layers = nn.ModuleList([nn.Conv2d(width, with_tags, 1), nn.Conv2d(width, num_keypoints, 1)])
        deconv = nn.Sequential(*doubling_deconv(width + with_tags, width))
        blocks = (nn.Sequential(BasicBlock(width)) for _ in range(4))
        self.deconv_layers = nn.ModuleList([nn.Sequential(deconv, *blocks)])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, h, w), sides a multiple of 32, to two tensors.

        Low: (n, 2K, h / 4, w / 4), the K heatmaps and then the K tags. High: heatmaps (n, K, h / 2, w / 2).
        """
        features = self.features(images)
        low = self.final_layers[0](features)
        finer = self.deconv_layers[0](torch.cat((features, low), dim=1))
        return low, self.final_layers[1](finer)
