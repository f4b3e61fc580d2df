"""The deterministic weights of the goldens (../shared/goldens/README.md, section 1)."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def fill(network: nn.Module, gain: float) -> nn.Module:
    """Set every parameter to random values from a generator that is seeded with its key."""
    state = network.state_dict()
    drawn = {key: _draw(key, tensor, gain, state) for key, tensor in state.items()}
    network.load_state_dict(drawn, assign=True)  # gives data to a network on the meta device
    return network.eval()


def images(*shape: int) -> Tensor:
    """The goldens' input: (n, 3, h, w) standard normal."""
    return torch.from_numpy(np.random.RandomState(7).standard_normal(shape).astype(np.float32))


def _draw(key: str, like: Tensor, gain: float, state: dict[str, Tensor]) -> Tensor:
    rng = np.random.RandomState(zlib.crc32(key.encode()))  # the generator that the goldens name
    shape = tuple(like.shape)
    prefix, _, leaf = key.rpartition(".")
    in_norm = f"{prefix}.running_mean" in state
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == "running_var" or (in_norm and leaf == "weight"):
        drawn = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        drawn = rng.standard_normal(shape) * (gain * np.sqrt(2 / np.prod(shape[1:])))
    else:
        drawn = rng.standard_normal(shape) * 0.1
    return torch.from_numpy(drawn.astype(np.float32))
