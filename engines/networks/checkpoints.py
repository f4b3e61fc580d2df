"""Loads the files that the papers' authors published, and others with the same weights, into the networks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from engines.networks import NETWORKS, build_network

State = Mapping[str, Tensor]
"""The parameters and running statistics of a network by their names."""

_HOLDERS = ("state_dict", "model_state_dict", "model", "network", "net")  # where training scripts keep the weights
_WRAPPERS = ("module.", "model.", "_orig_mod.")  # prefixes of DataParallel, the hourglass' trainer and torch.compile
_SHOWN = 3


class CheckpointError(ValueError):
    """A file that cannot be read as weights, or whose weights are not the network's."""


def load_network(name: str, path: Path, num_keypoints: int | None = None) -> nn.Module:
    """The network `name` with the weights in the file at `path`, in float32 and ready for inference.

    num_keypoints: None takes as many as the file has.
    Raises CheckpointError, saying which weights are missing, too many or of another shape and what the file fits
    instead, and as `build_network` and `read_state` do.
    """
    state = read_state(path)
    if num_keypoints is None:
        num_keypoints = keypoints_in(name, state)
    network = _hollow(name, num_keypoints)
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith(".num_batches_tracked")}
    complete = counters | state  # files of torch before 0.4.1 lack the counters, and inference does not read them
    if differences := _differences(network.state_dict(), complete):
        raise CheckpointError(f"{path} does not fit {name}: {'; '.join(differences)}. {_advice(name, state)}")
    network.load_state_dict(complete, assign=True)
    return network.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors file or in a torch file, old or new, that holds tensors alone.

    Unwraps nested dictionaries (`{"state_dict": ...}`) and the prefixes that wrappers put before every name. Nothing
    is unpickled: torch's own reader of tensors refuses all else. Floating point comes in float32.
    Raises CheckpointError where the file is absent, broken, or holds anything but tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file starts with the length of a JSON object, and that object.
        content = safetensors.torch.load_file(path) if start[8:] == b"{" else _read_tensors(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is not a torch or safetensors file, or is cut off: {error}") from error
    state = _without_wrappers(_tensors(content))
    if not state:
        raise CheckpointError(
            f"{path} holds no weights; expected tensors by name, at the top or under {', '.join(_HOLDERS)}"
        )
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def keypoints_in(name: str, state: State) -> int:
    """The number of keypoints of a checkpoint of network `name`; 17 where it does not tell."""
    few, more = (_hollow(name, count).state_dict() for count in (17, 18))
    for key, tensor in few.items():
        for side, (a, b) in enumerate(zip(tensor.shape, more[key].shape, strict=True)):
            if a != b and key in state and len(state[key].shape) > side:
                extra, rest = divmod(int(state[key].shape[side]) - a, b - a)
                if rest == 0 and 17 + extra > 0:
                    return 17 + extra
    return 17


def nearest_network(state: State) -> tuple[str, int, float]:
    """The network that most of a checkpoint's weights fit, its number of keypoints, and the share that fits, 0..1."""

    def share(name: str, count: int) -> float:
        wanted = _hollow(name, count).state_dict()
        fitting = sum(key in state and state[key].shape == tensor.shape for key, tensor in wanted.items())
        return fitting / len(wanted.keys() | state.keys())

    best = max(NETWORKS, key=lambda name: share(name, 17))
    count = keypoints_in(best, state)
    return best, count, share(best, count)


def _read_tensors(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, which can run anybody's code when it is read, or is no torch file; "
            "where you trust it, save its state_dict with safetensors.torch.save_file and give that file "
            f"({str(error).splitlines()[-1].strip()})"
        ) from error


def _tensors(content: Any) -> dict[str, Tensor]:
    """The dictionary of tensors in what a training script saved."""
    while isinstance(content, Mapping):
        holder = next((content[key] for key in _HOLDERS if isinstance(content.get(key), Mapping)), None)
        if holder is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = holder
    return {}


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _WRAPPERS if state and all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _hollow(name: str, num_keypoints: int) -> nn.Module:
    """A network without numbers: its names and shapes in no time."""
    with torch.device("meta"):
        return build_network(name, num_keypoints)


def _differences(wanted: State, given: State) -> list[str]:
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    reshaped = [
        f"{key} is {_shape(given[key])}, not {_shape(wanted[key])}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    kinds = (("lacks", missing), ("has besides", unexpected), ("of another shape:", reshaped))
    return [f"{label} {_some(keys)}" for label, keys in kinds if keys]


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a single number"


def _advice(name: str, state: State) -> str:
    nearest, count, share = nearest_network(state)
    if share < 0.5:
        return "It fits none of the networks; the names of its weights are those of another architecture"
    if nearest == name and share < 1:
        return f"{share:.0%} of it fits {name} with {count} keypoints: it is a variant, or was cut or renamed"
    return f"{share:.0%} of it fits {nearest} with {count} keypoints: build that one"
