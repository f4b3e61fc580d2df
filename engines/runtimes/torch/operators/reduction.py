"""Operators that reduce along axes: sums, norms, softmax, matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reduce(reduction: _Reduction) -> Factory:
    def factory(node: GraphNode) -> Function:
        axes = node.integers(1)
        keep = bool(node.attributes["keep_dims"])

        def reduce(*inputs: Tensor) -> Tensor:
            along = axes(inputs)
            return reduction(inputs[0], along, keep) if along else inputs[0]

        return reduce

    return factory


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep, dtype=x.dtype)
    return x


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keep)
    return x.double().mean(axes, keep).to(x.dtype)


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Factory:
    def factory(node: GraphNode) -> Function:
        axis = int(node.attributes["axis"])
        return lambda x: function(x, axis)

    return factory


def _mvn(node: GraphNode) -> Function:
    axes = node.integers(1)
    eps = float(node.attributes["eps"])
    scaled = bool(node.attributes["normalize_variance"])
    inside = str(node.attributes["eps_mode"]).lower() == "inside_sqrt"

    def mvn(*inputs: Tensor) -> Tensor:
        x, along = inputs[0], axes(inputs)
        centred = x - x.mean(along, keepdim=True)
        if not scaled:
            return centred
        variance = centred.square().mean(along, keepdim=True)
        return centred / (torch.sqrt(variance + eps) if inside else torch.sqrt(variance) + eps)

    return mvn


def _normalize_l2(node: GraphNode) -> Function:
    axes = node.integers(1)
    eps = float(node.attributes["eps"])
    add = str(node.attributes["eps_mode"]).lower() == "add"

    def normalise(*inputs: Tensor) -> Tensor:
        x, along = inputs[0], axes(inputs)
        if not along:
            return x / torch.sqrt(x.square() + eps if add else x.square().clamp_min(eps))
        squares = x.square().sum(along, keepdim=True)
        return x / torch.sqrt(squares + eps if add else squares.clamp_min(eps))

    return normalise


def _matmul(node: GraphNode) -> Function:
    transpose_a, transpose_b = bool(node.attributes["transpose_a"]), bool(node.attributes["transpose_b"])

    def matmul(a: Tensor, b: Tensor) -> Tensor:
        return (a.mT if transpose_a and a.dim() > 1 else a) @ (b.mT if transpose_b and b.dim() > 1 else b)

    return matmul


def _cum_sum(node: GraphNode) -> Function:
    axes = node.integers(1)
    exclusive, backwards = bool(node.attributes["exclusive"]), bool(node.attributes["reverse"])

    def cum_sum(*inputs: Tensor) -> Tensor:
        x, axis = inputs[0], axes(inputs)[0]
        ordered = x.flip(axis) if backwards else x
        total = ordered.cumsum(axis, dtype=x.dtype)
        total = total - ordered if exclusive else total
        return total.flip(axis) if backwards else total

    return cum_sum


def _einsum(node: GraphNode) -> Function:
    equation = str(node.attributes["equation"])
    return lambda *parts: torch.einsum(equation, *parts)


def _batch_norm(node: GraphNode) -> Function:
    eps = float(node.attributes["epsilon"])

    def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, gamma, beta, eps=eps)

    return batch_norm


REDUCTION: dict[str, Factory] = {
    "BatchNormInference": _batch_norm,
    "CumSum": _cum_sum,
    "Einsum": _einsum,
    "LogSoftmax": _softmax(torch.log_softmax),
    "MVN": _mvn,
    "MatMul": _matmul,
    "NormalizeL2": _normalize_l2,
    "ReduceL1": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep, dtype=x.dtype)),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceLogicalAnd": _reduce(lambda x, axes, keep: torch.all(x, axes, keep)),
    "ReduceLogicalOr": _reduce(lambda x, axes, keep: torch.any(x, axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: torch.amax(x, axes, keep)),
    "ReduceMean": _reduce(_mean),
    "ReduceMin": _reduce(lambda x, axes, keep: torch.amin(x, axes, keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype)),
    "Softmax": _softmax(torch.softmax),
}
