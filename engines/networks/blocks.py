"""The residual blocks that the networks share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu


def conv_bn(inputs: int, outputs: int, size: int = 1, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the image's size (divided by `stride`), then a batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def doubling_deconv(inputs: int, outputs: int) -> list[nn.Module]:
    """The layers of a transposed convolution that doubles the image, as in Simple Baselines' head."""
    return [
        nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity shortcut (He et al., Deep Residual Learning, 2016, figure 5 left)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(channels, channels, 3)
        self.conv2, self.bn2 = conv_bn(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to the same."""
        inner = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(inner)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with an identity shortcut, or a projection if shapes differ (figure 5 right).

    width: inner channels. The 3x3 convolution has the stride, as in torchvision's ResNets, from which the papers start.
    project: whether the shortcut is a projection; None: only if needed.
    """

    def __init__(self, inputs: int, width: int, outputs: int, stride: int = 1, project: bool | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_bn(inputs, width)
        self.conv2, self.bn2 = conv_bn(width, width, 3, stride)
        self.conv3, self.bn3 = conv_bn(width, outputs)
        if project is None:
            project = stride != 1 or inputs != outputs
        self.downsample = conv_bn(inputs, outputs, stride=stride) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        inner = relu(self.bn1(self.conv1(x)))
        inner = relu(self.bn2(self.conv2(inner)))
        return relu(self.bn3(self.conv3(inner)) + self.downsample(x))
