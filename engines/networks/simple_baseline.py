"""Simple Baselines for Human Pose Estimation and Tracking (Xiao, Wu, Wei, 2018), section 2."""

from __future__ import annotations

from torch import Tensor, nn

from engines.networks.blocks import doubling_deconv
from engines.networks.resnet import CHANNELS, ResNet


class SimpleBaseline(ResNet):
    """A ResNet with three transposed convolutions that upsample its last stage to a quarter of the input.

    Parameters are named as in the authors' checkpoints (such as pose_resnet_50_256x192.pth).
    """

    def __init__(self, depth: int, num_keypoints: int) -> None:
        super().__init__(depth)
        self.deconv_layers = nn.Sequential(
            *doubling_deconv(CHANNELS[-1], 256), *doubling_deconv(256, 256), *doubling_deconv(256, 256)
        )
        self.final_layer = nn.Conv2d(256, num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), sides a multiple of 32, to heatmaps (n, K, h / 4, w / 4)."""
        *_, last = self.features(images)
        return self.final_layer(self.deconv_layers(last))
