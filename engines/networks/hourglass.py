"""Stacked Hourglass Networks for Human Pose Estimation (Newell, Yang, Deng, 2016)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

_WIDTH = 256
_LEVELS = 4


class StackedHourglass(nn.Module):
    """A series of hourglasses; each gets the predictions of the one before it (section 3.2).

    Parameters are named as in the authors' PyTorch checkpoint; its images are RGB in 0..1, not normalised.
    """

    def __init__(self, stacks: int, num_keypoints: int) -> None:
        super().__init__()
        self.pre = nn.Sequential(
            _Conv(3, 64, 7, stride=2, norm=True),
            _Residual(64, 128),
            nn.MaxPool2d(2),
            _Residual(128, 128),
            _Residual(128, _WIDTH),
        )
        self.hgs = nn.ModuleList(nn.Sequential(_Hourglass(_LEVELS)) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(_Residual(_WIDTH, _WIDTH), _Conv(_WIDTH, _WIDTH, norm=True)) for _ in range(stacks)
        )
        self.outs = nn.ModuleList(_Conv(_WIDTH, num_keypoints) for _ in range(stacks))
        self.merge_features = nn.ModuleList(_merge(_WIDTH) for _ in range(stacks - 1))
        self.merge_preds = nn.ModuleList(_merge(num_keypoints) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), sides a multiple of 64, to the heatmaps of every stack (n, stacks, K, h / 4, w / 4)."""
        x = self.pre(images)
        stacks: list[Tensor] = []
        for index, hourglass in enumerate(self.hgs):
            features = self.features[index](hourglass(x))
            stacks.append(self.outs[index](features))
            if index < len(self.merge_preds):
                x = x + self.merge_preds[index](stacks[-1]) + self.merge_features[index](features)
        return torch.stack(stacks, dim=1)


class _Hourglass(nn.Module):
    """Downsamples, runs a smaller hourglass, upsamples, and adds a branch at full size (figure 3)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.up1 = _Residual(_WIDTH, _WIDTH)
        self.low1 = _Residual(_WIDTH, _WIDTH)
        self.low2 = _Hourglass(levels - 1) if levels > 1 else _Residual(_WIDTH, _WIDTH)
        self.low3 = _Residual(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 256, h, w) to the same."""
        low = self.low3(self.low2(self.low1(max_pool2d(x, 2))))
        return self.up1(x) + interpolate(low, scale_factor=2, mode="nearest")


class _Residual(nn.Module):
    """A bottleneck with norms before the convolutions (He et al., Identity Mappings, 2016).

    The checkpoint has a projection for every block; only blocks that change the number of channels use it.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _Conv(inputs, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = _Conv(half, half, 3)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv3 = _Conv(half, outputs)
        self.skip_layer = _Conv(inputs, outputs)
        self._projects = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        inner = self.conv1(relu(self.bn1(x)))
        inner = self.conv2(relu(self.bn2(inner)))
        inner = self.conv3(relu(self.bn3(inner)))
        return inner + (self.skip_layer(x) if self._projects else x)


class _Conv(nn.Module):
    """A convolution with bias that keeps the image's size (divided by `stride`), optionally with norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        self.bn = nn.BatchNorm2d(outputs) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        x = self.conv(x)
        return x if self.bn is None else relu(self.bn(x))


def _merge(inputs: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=_Conv(inputs, _WIDTH)))
