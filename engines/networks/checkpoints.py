"""Loads the authors' checkpoints, and others with the same weights, into the networks."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from engines.catalogue.fetch.archives import UNSOUND_ZIP
from engines.files import open_regular, shown
from engines.networks import NETWORKS, build_network

State = Mapping[str, Tensor]
"""The parameters and running statistics of a network by their names."""

_HOLDERS = ("state_dict", "model_state_dict", "model", "network", "net")  # where training scripts save the weights
_WRAPPERS = ("module.", "model.", "_orig_mod.")  # prefixes of DataParallel, the hourglass' trainer and torch.compile
_SHOWN = 3
_MOST_NUMBERS = 1 << 30
_BESIDE: Mapping[str, str] = {
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy": "dtype ndarray bool_ float32 float64 int32 int64",
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "datetime": "datetime date time timedelta timezone",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",  # of Python 3.13
    "decimal": "Decimal",
    "uuid": "UUID",
    "mmengine.logging.history_buffer": "HistoryBuffer",
    "_codecs": "encode",
    "builtins": "bytes bytearray complex set frozenset slice range list dict tuple int float str bool",
}
"""Types that training scripts save beside the weights: losses and epochs as numpy numbers, options, times, paths."""
_UNREADABLE = (
    *(RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(struct.error, RecursionError, MemoryError),
)
"""The exceptions that torch's readers raise for damaged files."""


class CheckpointError(ValueError):
    """The file cannot be read as weights, or its weights do not fit the network."""


def load_network(name: str, path: Path, num_keypoints: int | None = None) -> nn.Module:
    """The network `name` with the weights in the file at `path`, in float32 and ready for inference.

    num_keypoints: None takes the number in the file.
    Raises CheckpointError, which names missing weights, extra weights, weights of other shapes and the network that the
    file fits instead, and the errors of `build_network` and `read_state`.
    """
    state = read_state(path)
    if num_keypoints is None:
        num_keypoints = keypoints_in(name, state)
    network = _meta_network(name, num_keypoints)
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith(".num_batches_tracked")}
    complete = counters | state  # torch before 0.4.1 did not save the counters, and inference does not use them
    if differences := _differences(network.state_dict(), complete):
        raise CheckpointError(f"{shown(path)} does not fit {name}: {'; '.join(differences)}. {_advice(name, state)}")
    network.load_state_dict(complete, assign=True)
    return network.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors file or a torch file of the old or new format.

    Unwraps nested dictionaries (`{"state_dict": ...}`) and the prefixes that wrappers add to every name. No code is
    run: torch's weights-only reader refuses anything but tensors, except for the values that training scripts save
    beside the weights, which are replaced by placeholders. Floating-point weights are converted to float32.
    Raises CheckpointError if the file is missing, damaged, or contains anything else.
    """
    name = shown(path)
    try:
        with open_regular(path) as file:
            start = file.read(9)
            _check_name(file, path.name)
            if start.startswith(b"PK\x03\x04"):
                _check_sums(file, name)
        # A safetensors file starts with the length of a JSON object and that object.
        content = safetensors.torch.load_file(path) if start[8:] == b"{" else _read_tensors(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {name}: {error.strerror}") from error
    except CheckpointError:
        raise
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{name} is damaged or cut off: its header does not fit its tensors") from error
    except _UNREADABLE as error:
        raise CheckpointError(f"{name} is not a torch or safetensors file, or it is damaged or cut off") from error
    state = _without_wrappers(_tensors(content))
    if not state:
        raise CheckpointError(
            f"{name} holds no weights; expected tensors by name, at the top or under {', '.join(_HOLDERS)}"
        )
    _check_numbers(state, name)
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def _check_sums(file: BufferedReader, name: str) -> None:
    """Raise CheckpointError if a member of the archive does not match its checksum, which torch does not verify."""
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except UNSOUND_ZIP as error:
        raise CheckpointError(f"{name} is damaged or cut off: its archive cannot be read; get it again") from error
    if wrong is not None:
        raise CheckpointError(f"{name} is damaged: the checksum of {shown(wrong)} is wrong; get it again")


def _check_name(file: BufferedReader, name: str) -> None:
    """Raise CheckpointError if the file name contains another SHA-256 prefix than the file has.

    Authors add this prefix as torch.hub does; files in the oldest format have no other checksum.
    """
    said = re.search(r"-([0-9a-f]{8,64})(?:_\d{8})?\.(?:pt|pth|pth\.tar|safetensors)$", name)
    if said is not None:
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(said[1]):
            raise CheckpointError(
                f"{shown(name)} is damaged or was changed: its SHA-256 begins with "
                f"{found[: len(said[1])]}, and its name says {said[1]}; get it again, or rename it where you trust it"
            )


def _check_numbers(state: State, name: str) -> None:
    """Raise CheckpointError for tensors that are not plain, for more numbers than any network has, and for numbers that
    are not finite, which are a sign of damage.
    """
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise CheckpointError(f"{name}: {key} is not a plain tensor (it is sparse, quantised, complex or absent)")
    if sum(tensor.numel() for tensor in state.values()) > _MOST_NUMBERS:
        raise CheckpointError(f"{name} holds more than {_MOST_NUMBERS:,} numbers, which none of the networks has")
    for key, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise CheckpointError(f"{name} is damaged: {key} holds numbers that are not finite")


def keypoints_in(name: str, state: State) -> int:
    """The number of keypoints of a checkpoint of network `name`; 17 if it cannot be determined."""
    few, more = (_meta_network(name, count).state_dict() for count in (17, 18))
    for key, tensor in few.items():
        for side, (a, b) in enumerate(zip(tensor.shape, more[key].shape, strict=True)):
            if a != b and key in state and len(state[key].shape) > side:
                extra, rest = divmod(int(state[key].shape[side]) - a, b - a)
                if rest == 0 and 17 + extra > 0:
                    return 17 + extra
    return 17


def nearest_network(state: State) -> tuple[str, int, float]:
    """The network that fits most of a checkpoint's weights, its number of keypoints, and the share that fits, 0..1."""

    def share(name: str, count: int) -> float:
        wanted = _meta_network(name, count).state_dict()
        fitting = sum(key in state and state[key].shape == tensor.shape for key, tensor in wanted.items())
        return fitting / len(wanted.keys() | state.keys())

    best = max(NETWORKS, key=lambda name: share(name, 17))
    count = keypoints_in(best, state)
    return best, count, share(best, count)


class _Placeholder:
    """Replaces a value beside the weights and drops its content."""

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _read_tensors(path: Path) -> Any:
    """The content of a torch file. Raises CheckpointError unless it is tensors, plain values and types in `_BESIDE`."""
    name = shown(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_placeholders()):
            warnings.simplefilter("ignore")  # about pickle protocols; torch refuses files that it cannot read
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{name} holds more than tensors, which can run anybody's code when it is read{what}, or is no torch file; "
            "where you trust it, save its state_dict with safetensors.torch.save_file and give that file"
        ) from error


def _placeholders() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    beside = [(_Placeholder, f"{module}.{name}") for module, names in _BESIDE.items() for name in names.split()]
    return [*beside, (lambda *_: {}, "collections.defaultdict"), (lambda *_: [], "collections.deque")]


def _tensors(content: Any) -> dict[str, Tensor]:
    """The dictionary of tensors in the content of a training script's file."""
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


def _meta_network(name: str, num_keypoints: int) -> nn.Module:
    """A network on the meta device: names and shapes without data."""
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
    retyped = [
        f"{key} is {given[key].dtype}"
        for key in wanted
        if key in given and wanted[key].is_floating_point() and not given[key].is_floating_point()
    ]
    kinds = (
        ("lacks", missing),
        ("has besides", unexpected),
        ("of another shape:", reshaped),
        ("of another kind of number:", retyped),
    )
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
