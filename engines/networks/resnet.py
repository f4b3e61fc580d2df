"""ResNet (He et al., Deep Residual Learning for Image Recognition, 2016), without its classifier."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from engines.networks.blocks import Bottleneck, conv_bn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks per stage by depth (table 1)."""
CHANNELS = (256, 512, 1024, 2048)
"""Output channels per stage."""


class ResNet(nn.Module):
    """The stem and four stages; the names of its parameters are torchvision's."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(3, 64, 7, stride=2)
        first, second, third, fourth = BLOCKS[depth]
        self.layer1 = _stage(64, CHANNELS[0], first, stride=1)
        self.layer2 = _stage(CHANNELS[0], CHANNELS[1], second, stride=2)
        self.layer3 = _stage(CHANNELS[1], CHANNELS[2], third, stride=2)
        self.layer4 = _stage(CHANNELS[2], CHANNELS[3], fourth, stride=2)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(n, 3, h, w) to the features of the stages: 1/4, 1/8, 1/16 and 1/32 of the size, with `CHANNELS` channels."""
        stem = max_pool2d(relu(self.bn1(self.conv1(images))), kernel_size=3, stride=2, padding=1)
        c2 = self.layer1(stem)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    width = outputs // 4
    return nn.Sequential(
        Bottleneck(inputs, width, outputs, stride),
        *(Bottleneck(outputs, width, outputs) for _ in range(blocks - 1)),
    )
