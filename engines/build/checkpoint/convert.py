"""From an author's checkpoint to a model that can be served: an ONNX graph and a catalogue file beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from engines.build.checkpoint.built import Order, note_built
from engines.build.checkpoint.entry import entry_text, is_users_own
from engines.build.checkpoint.export import export_onnx
from engines.build.checkpoint.published import PUBLISHED, Published, size_in
from engines.files import shown, write_atomically
from engines.inputs import PixelInput
from engines.networks.checkpoints import keypoints_in, load_network
from engines.skeletons import COCO_17, MPII_16, SKELETONS

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # as catalogue files demand


class BuildError(ValueError):
    """What was asked for cannot be built; the message says what can."""


@dataclass(frozen=True, slots=True)
class Built:
    """difference: of graph and network, see `engines.build.checkpoint.export.TOLERANCE`."""

    graph: Path
    catalogue: Path
    pixels: PixelInput
    skeleton: str
    difference: float


def build_checkpoint(order: Order, folder: Path) -> Built:
    """Write `<name>.onnx` and `<name>.toml`, a catalogue file with the one model, into `folder`, and note of what.

    Raises CheckpointError, ExportError, and BuildError for an architecture, name, size or skeleton that does not fit.
    """
    if not re.fullmatch(_NAME, order.name):
        raise BuildError(f"the name {order.name!r} must be of the form {_NAME}")
    if order.architecture not in PUBLISHED:
        raise BuildError(f"architecture {order.architecture!r} is not one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[order.architecture]
    pixels = _sized(published, order)
    catalogue = order.catalogue(folder)
    if is_users_own(catalogue):
        raise BuildError(f"{shown(catalogue)} is not a file that was built; choose another name or folder")
    network = load_network(order.architecture, order.checkpoint)
    skeleton = _skeleton(order, keypoints_in(order.architecture, network.state_dict()))
    folder.mkdir(parents=True, exist_ok=True)
    graph = order.graph(folder)
    difference = export_onnx(
        published.answering(network), graph, height=pixels.height, width=pixels.width, outputs=published.outputs
    )
    write_atomically(catalogue, _entry(order, published, pixels, skeleton).encode())
    note_built(order, folder)
    return Built(graph, catalogue, pixels, skeleton, difference)


def _sized(published: Published, order: Order) -> PixelInput:
    size = order.size or size_in(order.checkpoint.name)
    if size is None:
        return published.pixels
    if any(not 64 <= side <= 2048 or side % published.side for side in size):
        raise BuildError(
            f"the input of {order.architecture} cannot be {size[0]}x{size[1]} (height x width): "
            f"both must be multiples of {published.side} from 64 to 2048"
        )
    return replace(published.pixels, height=size[0], width=size[1])


def _skeleton(order: Order, count: int) -> str:
    fitting = [skeleton.name for skeleton in SKELETONS.values() if len(skeleton) == count]
    for wanted in (COCO_17.name, MPII_16.name) if order.skeleton is None else (order.skeleton,):
        if wanted in fitting:
            return wanted
    asked = "say which skeleton that is" if order.skeleton is None else f"{order.skeleton} does not fit"
    those = f"of {count} keypoints there is {', '.join(fitting)}" if fitting else "no skeleton here has as many"
    raise BuildError(f"{shown(order.checkpoint)} has {count} keypoints: {asked}; {those}")


def _entry(order: Order, published: Published, pixels: PixelInput, skeleton: str) -> str:
    keys: dict[str, object] = {
        "title": f"{order.architecture} {pixels.height}x{pixels.width}, {shown(order.checkpoint.name)}",
        "role": published.role,
        "family": published.family,
        "skeleton": skeleton,
        "detector": order.detector if published.role == "estimator" else None,
        "licence": "unknown",
        "commercial": False,
        "source": {"kind": "file", "path": f"{order.name}.onnx"},
        "options": published.options,
    }
    return entry_text(order.name, f"{order.architecture}`. Say here what licence the weights have.", keys, pixels)
