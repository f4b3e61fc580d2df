"""Cascaded Pyramid Network for Multi-Person Pose Estimation (Chen et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engines.networks.blocks import Bottleneck, conv_bn
from engines.networks.resnet import CHANNELS, ResNet

_WIDTH = 256
_LEVELS = len(CHANNELS)


class CPN(nn.Module):
    """A feature pyramid that predicts at every level (GlobalNet), then all levels together (RefineNet).

    Parameters are named as in the checkpoints of GengDavid/pytorch-cpn.
    """

    def __init__(self, depth: int, num_keypoints: int) -> None:
        super().__init__()
        self.resnet = ResNet(depth)
        self.global_net = _GlobalNet(num_keypoints)
        self.refine_net = _RefineNet(num_keypoints)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(n, 3, h, w), sides a multiple of 32, to five heatmaps (n, K, h / 4, w / 4).

        GlobalNet's four from coarse to fine, then RefineNet's, which is the final result.
        """
        pyramid, predictions = self.global_net(self.resnet.features(images)[::-1])
        return (*predictions, self.refine_net(pyramid))


class _GlobalNet(nn.Module):
    """Section 3.1: each level is its stage's features plus the upsampled coarser level."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Sequential(*conv_bn(c, _WIDTH), nn.ReLU()) for c in reversed(CHANNELS))
        self.upsamples = nn.ModuleList(
            nn.Sequential(_upsample(2), *conv_bn(_WIDTH, _WIDTH)) for _ in range(_LEVELS - 1)
        )
        self.predict = nn.ModuleList(_predictor(num_keypoints, 2 ** (_LEVELS - 1 - n)) for n in range(_LEVELS))

    def forward(self, stages: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The pyramid and each level's heatmaps, coarse to fine, from the stages' features."""
        pyramid = [self.laterals[0](stages[0])]
        for lateral, upsample, stage in zip(self.laterals[1:], self.upsamples, stages[1:], strict=True):
            pyramid.append(lateral(stage) + upsample(pyramid[-1]))
        return pyramid, [predict(level) for predict, level in zip(self.predict, pyramid, strict=True)]


class _RefineNet(nn.Module):
    """Section 3.2: coarser levels pass more bottlenecks; all are upsampled to the finest level and concatenated."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        depths = range(_LEVELS - 1, -1, -1)
        self.cascade = nn.ModuleList(
            nn.Sequential(*(_bottleneck(_WIDTH) for _ in range(depth)), _upsample(2**depth)) for depth in depths
        )
        self.final_predict = nn.Sequential(_bottleneck(_LEVELS * _WIDTH), *conv_bn(_WIDTH, num_keypoints, 3))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """(n, 256, ...) of each level, coarse to fine, to heatmaps (n, K, h, w) of the finest level's size."""
        refined = [blocks(level) for blocks, level in zip(self.cascade, pyramid, strict=True)]
        return self.final_predict(torch.cat(refined, dim=1))


def _predictor(num_keypoints: int, factor: int) -> nn.Sequential:
    to_keypoints, norm = conv_bn(_WIDTH, num_keypoints, 3)
    return nn.Sequential(*conv_bn(_WIDTH, _WIDTH), nn.ReLU(), to_keypoints, _upsample(factor), norm)


def _bottleneck(inputs: int) -> Bottleneck:
    return Bottleneck(inputs, _WIDTH // 2, _WIDTH, project=True)


def _upsample(factor: int) -> nn.Upsample:
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True)
