"""Builds a model that can be served from an author's checkpoint: an ONNX graph and a catalogue file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.build.checkpoint.built import FIRST_WORDS, BuildRequest, entry_text, is_users_own, note_built
from engines.build.checkpoint.export import export_onnx
from engines.build.checkpoint.published import PUBLISHED, Published
from engines.files import shown, write_atomically
from engines.inputs import PixelInput
from engines.networks.checkpoints import keypoints_in, load_network
from engines.skeletons import COCO_17, MPII_16, SKELETONS, Skeleton

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # as catalogue files require


class BuildError(ValueError):
    """The request cannot be built; the message says what can."""


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """graphs: each with its input, the default first. difference: the largest between a graph and the network, see
    `engines.build.checkpoint.export.TOLERANCE`.
    """

    graphs: Mapping[Path, PixelInput]
    catalogue: Path
    skeleton: str
    difference: float


def build_checkpoint(request: BuildRequest, folder: Path, skeletons: Mapping[str, Skeleton] = SKELETONS) -> BuiltModel:
    """Write `<name>.onnx` and `<name>.toml`, a catalogue file with this model, into `folder`, and record the request.
    For a bottom-up network of the default size, `<name>-wide.onnx` and `<name>-tall.onnx` are written as well.
    skeletons: that it may have, by name.

    Raises CheckpointError, ExportError, and BuildError for an invalid architecture, name, size or skeleton.
    """
    if not re.fullmatch(_NAME, request.name):
        raise BuildError(f"the name {request.name!r} must be of the form {_NAME}")
    if request.architecture not in PUBLISHED:
        raise BuildError(f"architecture {request.architecture!r} is not one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[request.architecture]
    inputs = network_inputs(published, request)
    catalogue = request.catalogue(folder)
    if is_users_own(catalogue):
        raise BuildError(f"{shown(catalogue)} is not a file that was built; choose another name or folder")
    network = load_network(request.architecture, request.checkpoint)
    skeleton = _skeleton(request, skeletons, keypoints_in(request.architecture, network.state_dict()))
    folder.mkdir(parents=True, exist_ok=True)
    graphs = dict(zip(request.graphs(folder), inputs, strict=True))
    served = published.served(network)
    difference = max(
        export_onnx(served, graph, height=pixels.height, width=pixels.width, outputs=published.outputs)
        for graph, pixels in graphs.items()
    )
    write_atomically(catalogue, catalogue_text(request, published, inputs, skeleton).encode())
    note_built(request, folder)
    return BuiltModel(graphs, catalogue, skeleton, difference)


def network_inputs(published: Published, request: BuildRequest) -> list[PixelInput]:
    """The inputs of `request.names`. A wide or tall one is half as long again as the square one: between photos
    (4:3), which would fill a longer input with padding, and cameras (16:9), which are shown at 0.84 of the scale that
    the authors use. Raises BuildError for a size that cannot be.
    """
    size, square = request.given_size, published.pixels
    if size is None:
        longer = square.width * 3 // 2
        return [square, replace(square, width=longer), replace(square, height=longer)][: len(request.names)]
    if any(not 64 <= side <= 2048 or side % published.side for side in size):
        raise BuildError(
            f"the input of {request.architecture} cannot be {size[0]}x{size[1]} (height x width): "
            f"both must be multiples of {published.side} from 64 to 2048"
        )
    return [replace(square, height=size[0], width=size[1])]


def _skeleton(request: BuildRequest, skeletons: Mapping[str, Skeleton], count: int) -> str:
    fitting = [skeleton.name for skeleton in skeletons.values() if len(skeleton) == count]
    for wanted in (COCO_17.name, MPII_16.name) if request.skeleton is None else (request.skeleton,):
        if wanted in fitting:
            return wanted
    asked = "say which skeleton that is" if request.skeleton is None else f"{request.skeleton} does not fit"
    those = f"of {count} keypoints there is {', '.join(fitting)}" if fitting else "no skeleton here has as many"
    raise BuildError(f"{shown(request.checkpoint)} has {count} keypoints: {asked}; {those}")


def catalogue_text(request: BuildRequest, published: Published, inputs: Sequence[PixelInput], skeleton: str) -> str:
    """The catalogue file with the models of `request.names`, whose inputs are `inputs`."""
    models = zip(request.names, inputs, strict=True)
    return "\n".join(_entry(request, name, published, pixels, skeleton) for name, pixels in models)


def _entry(request: BuildRequest, name: str, published: Published, pixels: PixelInput, skeleton: str) -> str:
    keys: dict[str, object] = {
        "title": f"{request.architecture} {pixels.height}x{pixels.width}, {shown(request.checkpoint.name)}",
        "role": published.role,
        "family": published.family,
        "skeleton": skeleton,
        "detector": request.detector if published.role == "estimator" else None,
        "shapes": request.names[1:] if name == request.name else (),
        "licence": "unknown",
        "commercial": False,
        "source": {"kind": "file", "path": f"{name}.onnx"},
        "options": published.options,
    }
    remark = f"{FIRST_WORDS} {request.architecture}`. Say here what licence the weights have."
    return entry_text(name, remark, keys, pixels)
