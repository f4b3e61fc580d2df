"""Deep High-Resolution Representation Learning for Human Pose Estimation (Sun, Xiao, Liu, Wang, 2019)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from engines.networks.blocks import BasicBlock, Bottleneck, conv_bn


class HRNetBackbone(nn.Module):
    """Branches at 1/4, 1/8, 1/16 and 1/32 of the input, with width, 2, 4 and 8 times width channels (section 3).

    Each stage adds a branch; its modules run all branches in parallel and exchange features between them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (width, 2 * width, 4 * width, 8 * width)
        self.conv1, self.bn1 = conv_bn(3, 64, 3, stride=2)
        self.conv2, self.bn2 = conv_bn(64, 64, 3, stride=2)
        self.layer1 = nn.Sequential(Bottleneck(64, 64, 256), *(Bottleneck(256, 64, 256) for _ in range(3)))
        self.transition1 = _transition((256,), channels[:2])
        self.stage2 = nn.Sequential(Exchange(channels[:2]))
        self.transition2 = _transition(channels[:2], channels[:3])
        self.stage3 = nn.Sequential(*(Exchange(channels[:3]) for _ in range(4)))
        self.transition3 = _transition(channels[:3], channels)
        # Only the finest branch of the last module is used, so the checkpoints lack the others' weights.
        self.stage4 = nn.Sequential(Exchange(channels), Exchange(channels), Exchange(channels, outputs=1))

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), sides a multiple of 32, to (n, width, h / 4, w / 4)."""
        x = relu(self.bn1(self.conv1(images)))
        x = self.layer1(relu(self.bn2(self.conv2(x))))
        branches = self.stage2(_enter(self.transition1, [x]))
        branches = self.stage3(_enter(self.transition2, branches))
        [finest] = self.stage4(_enter(self.transition3, branches))
        return finest


class HRNet(HRNetBackbone):
    """The backbone and a 1x1 convolution. Parameters are named as in the authors' pose_hrnet_*.pth."""

    def __init__(self, width: int, num_keypoints: int) -> None:
        super().__init__(width)
        self.final_layer = nn.Conv2d(width, num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, h, w), sides a multiple of 32, to heatmaps (n, K, h / 4, w / 4)."""
        return self.final_layer(self.features(images))


class Exchange(nn.Module):
    """Four residual blocks on each branch, then every branch becomes the sum of all, resized to it (figure 3).

    outputs: the number of branches that are returned, the finest first; None for all.
    """

    def __init__(self, channels: Sequence[int], outputs: int | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(4))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            _Sum(_resized(channels, source, target) for source in range(len(channels)))
            for target in range(outputs or len(channels))
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        """One (n, c, h, w) per branch, finest first; to the same, or the first `outputs` of them."""
        branches = [blocks(x) for blocks, x in zip(self.branches, inputs, strict=True)]
        return [relu(add(branches)) for add in self.fuse_layers]


class _Sum(nn.ModuleList):
    """One output branch: the sum of all input branches, each resized by its module."""

    def forward(self, branches: list[Tensor]) -> Tensor:
        """One (n, c, h, w) per branch, finest first; to the output branch."""
        total, *others = (resize(x) for resize, x in zip(self, branches, strict=True))
        for other in others:
            total = total + other
        return total


def _resized(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """A module from the size and channels of branch `source` to those of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        upsample = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(*conv_bn(channels[source], channels[target]), upsample)
    halve = [_halve(channels[source], channels[source]) for _ in range(target - source - 1)]
    return nn.Sequential(*halve, conv_bn(channels[source], channels[target], 3, stride=2))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """The modules before a stage, one per branch; the new branch is computed from the coarsest one."""
    layers = nn.ModuleList()
    for index, channels in enumerate(after):
        if index >= len(before):
            layers.append(nn.Sequential(_halve(before[-1], channels)))
        elif before[index] != channels:
            layers.append(nn.Sequential(*conv_bn(before[index], channels, 3), nn.ReLU()))
        else:
            layers.append(nn.Identity())
    return layers


def _enter(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    return [layer(branches[min(index, len(branches) - 1)]) for index, layer in enumerate(transition)]


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*conv_bn(inputs, outputs, 3, stride=2), nn.ReLU())
