"""Builds a model that can be served from an author's checkpoint: an ONNX graph and a catalogue file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engines.build.checkpoint.built import FIRST_WORDS, BuildRequest, entry_text, is_users_own, note_built
from engines.build.checkpoint.export import export_onnx
from engines.build.checkpoint.published import PUBLISHED, Published, size_in
from engines.files import shown, write_atomically
from engines.inputs import PixelInput
from engines.networks.checkpoints import keypoints_in, load_network
from engines.skeletons import COCO_17, MPII_16, SKELETONS, Skeleton

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # as catalogue files require


class BuildError(ValueError):
    """The request cannot be built; the message says what can."""


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """difference: between graph and network, see `engines.build.checkpoint.export.TOLERANCE`."""

    graph: Path
    catalogue: Path
    pixels: PixelInput
    skeleton: str
    difference: float


def build_checkpoint(request: BuildRequest, folder: Path, skeletons: Mapping[str, Skeleton] = SKELETONS) -> BuiltModel:
    """Write `<name>.onnx` and `<name>.toml`, a catalogue file with this model, into `folder`, and record the request.
    skeletons: that it may have, by name.

    Raises CheckpointError, ExportError, and BuildError for an invalid architecture, name, size or skeleton.
    """
    if not re.fullmatch(_NAME, request.name):
        raise BuildError(f"the name {request.name!r} must be of the form {_NAME}")
    if request.architecture not in PUBLISHED:
        raise BuildError(f"architecture {request.architecture!r} is not one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[request.architecture]
    pixels = _sized(published, request)
    catalogue = request.catalogue(folder)
    if is_users_own(catalogue):
        raise BuildError(f"{shown(catalogue)} is not a file that was built; choose another name or folder")
    network = load_network(request.architecture, request.checkpoint)
    skeleton = _skeleton(request, skeletons, keypoints_in(request.architecture, network.state_dict()))
    folder.mkdir(parents=True, exist_ok=True)
    graph = request.graph(folder)
    difference = export_onnx(
        published.served(network), graph, height=pixels.height, width=pixels.width, outputs=published.outputs
    )
    write_atomically(catalogue, _entry(request, published, pixels, skeleton).encode())
    note_built(request, folder)
    return BuiltModel(graph, catalogue, pixels, skeleton, difference)


def _sized(published: Published, request: BuildRequest) -> PixelInput:
    size = request.size or size_in(request.checkpoint.name)
    if size is None:
        return published.pixels
    if any(not 64 <= side <= 2048 or side % published.side for side in size):
        raise BuildError(
            f"the input of {request.architecture} cannot be {size[0]}x{size[1]} (height x width): "
            f"both must be multiples of {published.side} from 64 to 2048"
        )
    return replace(published.pixels, height=size[0], width=size[1])


def _skeleton(request: BuildRequest, skeletons: Mapping[str, Skeleton], count: int) -> str:
    fitting = [skeleton.name for skeleton in skeletons.values() if len(skeleton) == count]
    for wanted in (COCO_17.name, MPII_16.name) if request.skeleton is None else (request.skeleton,):
        if wanted in fitting:
            return wanted
    asked = "say which skeleton that is" if request.skeleton is None else f"{request.skeleton} does not fit"
    those = f"of {count} keypoints there is {', '.join(fitting)}" if fitting else "no skeleton here has as many"
    raise BuildError(f"{shown(request.checkpoint)} has {count} keypoints: {asked}; {those}")


def _entry(request: BuildRequest, published: Published, pixels: PixelInput, skeleton: str) -> str:
    keys: dict[str, object] = {
        "title": f"{request.architecture} {pixels.height}x{pixels.width}, {shown(request.checkpoint.name)}",
        "role": published.role,
        "family": published.family,
        "skeleton": skeleton,
        "detector": request.detector if published.role == "estimator" else None,
        "licence": "unknown",
        "commercial": False,
        "source": {"kind": "file", "path": f"{request.name}.onnx"},
        "options": published.options,
    }
    remark = f"{FIRST_WORDS} {request.architecture}`. Say here what licence the weights have."
    return entry_text(request.name, remark, keys, pixels)
