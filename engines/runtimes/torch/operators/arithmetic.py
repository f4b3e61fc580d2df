"""Element-wise operators."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode, dtype_of


def _plain(function: Function) -> Factory:
    """An operator without attributes."""
    return lambda _: function


def _divide(node: GraphNode) -> Function:
    rounding = "floor" if node.attributes.get("m_pythondiv", True) else "trunc"

    def divide(a: Tensor, b: Tensor) -> Tensor:
        return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode=rounding)

    return divide


def _clamp(node: GraphNode) -> Function:
    low, high = float(node.attributes["min"]), float(node.attributes["max"])
    return lambda x: torch.clamp(x, low, high)


def _hard_sigmoid(node: GraphNode) -> Function:
    alpha, beta = node.scalar(1), node.scalar(2)
    return lambda x, *_: torch.clamp(x * alpha + beta, 0, 1)


def _elu(node: GraphNode) -> Function:
    return partial(F.elu, alpha=float(node.attributes["alpha"]))


def _gelu(node: GraphNode) -> Function:
    tanh = str(node.attributes.get("approximation_mode", "ERF")).lower() == "tanh"
    return partial(F.gelu, approximate="tanh" if tanh else "none")


def _swish(node: GraphNode) -> Function:
    if len(node.known) == 1:
        return F.silu
    beta = node.scalar(1)
    return lambda x, _: x * torch.sigmoid(beta * x)


def _prelu(_: GraphNode) -> Function:
    def prelu(x: Tensor, slope: Tensor) -> Tensor:
        if slope.dim() == 1 and slope.numel() > 1 and x.dim() > 1:  # per channel, not along the last axis
            slope = slope.reshape(-1, *[1] * (x.dim() - 2))
        return torch.where(x < 0, x * slope, x)

    return prelu


def _round(node: GraphNode) -> Function:
    if node.attributes["mode"] == "half_to_even":
        return torch.round
    return lambda x: torch.trunc(x + torch.copysign(torch.full_like(x, 0.5), x))


def _convert(node: GraphNode) -> Function:
    to = dtype_of(node.attributes["destination_type"])
    return lambda x: x.to(to)


def _fake_quantize(node: GraphNode) -> Function:
    steps = int(node.attributes["levels"]) - 1

    def fake_quantize(x: Tensor, low: Tensor, high: Tensor, out_low: Tensor, out_high: Tensor) -> Tensor:
        inside = torch.clamp(x, torch.minimum(low, high), torch.maximum(low, high))
        level = inside.sub_(low).mul_(steps / (high - low)).round_()
        return level.mul_((out_high - out_low) / steps).add_(out_low)

    return fake_quantize


ARITHMETIC: dict[str, Factory] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "Ceiling": _plain(torch.ceil),
    "Clamp": _clamp,
    "Convert": _convert,
    "ConvertLike": _plain(lambda x, like: x.to(like.dtype)),
    "Cos": _plain(torch.cos),
    "Divide": _divide,
    "Elu": _elu,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "FakeQuantize": _fake_quantize,
    "Floor": _plain(torch.floor),
    "FloorMod": _plain(torch.remainder),
    "Gelu": _gelu,
    "Greater": _plain(torch.gt),
    "GreaterEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HSigmoid": _plain(F.hardsigmoid),
    "HSwish": _plain(F.hardswish),
    "IsFinite": _plain(torch.isfinite),
    "IsNaN": _plain(torch.isnan),
    "Less": _plain(torch.lt),
    "LessEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogicalAnd": _plain(torch.logical_and),
    "LogicalNot": _plain(torch.logical_not),
    "LogicalOr": _plain(torch.logical_or),
    "LogicalXor": _plain(torch.logical_xor),
    "Maximum": _plain(torch.maximum),
    "Minimum": _plain(torch.minimum),
    "Mish": _plain(F.mish),
    "Mod": _plain(torch.fmod),
    "Multiply": _plain(torch.mul),
    "Negative": _plain(torch.neg),
    "NotEqual": _plain(torch.ne),
    "Power": _plain(torch.pow),
    "PRelu": _prelu,
    "Relu": _plain(torch.relu),
    "Round": _round,
    "Select": _plain(torch.where),
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Sin": _plain(torch.sin),
    "SoftPlus": _plain(F.softplus),
    "Sqrt": _plain(torch.sqrt),
    "SquaredDifference": _plain(lambda a, b: torch.square(a - b)),
    "Subtract": _plain(torch.sub),
    "Swish": _swish,
    "Tanh": _plain(torch.tanh),
}
