"""A build request for a checkpoint, the files it leads to, and the test for whether they exist. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engines.catalogue.fetch import records
from engines.inputs import PixelInput

FIRST_WORDS = "# Built by `posewire build"
"""The beginning of every generated catalogue file. A file that begins otherwise is the user's own and is not touched.
"""

BOTTOM_UP = ("higherhrnet-w32", "higherhrnet-w48")
"""The architectures that take whole frames, whatever their aspect ratio."""

_RECIPE = 2  # incremented when this package builds another graph or another entry from the same checkpoint


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A model to build from a checkpoint.

    architecture: one of `engines.networks.NETWORKS`. size: height and width of the input; None takes the size in the
    checkpoint's file name, or else the authors' default: for a bottom-up network a square input, a wide and a tall one.
    skeleton: None takes COCO's for 17 keypoints and MPII's for 16.
    detector: the model that finds the people, None for whole frames; bottom-up networks have none.
    """

    architecture: str
    checkpoint: Path
    name: str
    size: tuple[int, int] | None = None
    skeleton: str | None = None
    detector: str | None = None

    @property
    def given_size(self) -> tuple[int, int] | None:
        """The size that the user or the checkpoint's file name gives."""
        return self.size or size_in(self.checkpoint.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The models to build: `name`, and for a bottom-up network of the default size those for other shapes."""
        if self.architecture not in BOTTOM_UP or self.given_size is not None:
            return (self.name,)
        return (self.name, f"{self.name}-wide", f"{self.name}-tall")

    def graphs(self, folder: Path) -> tuple[Path, ...]:
        """The graphs of `names`."""
        return tuple(folder / f"{name}.onnx" for name in self.names)

    def catalogue(self, folder: Path) -> Path:
        return folder / f"{self.name}.toml"

    @property
    def digest(self) -> str:
        """A digest of everything the result depends on, including the checkpoint's content. Raises OSError."""
        content = records.sha256(self.checkpoint)
        fields = asdict(self) | {"checkpoint": (self.checkpoint.name, content), "recipe": _RECIPE}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def is_built(request: BuildRequest, folder: Path) -> bool:
    """True if `folder` holds the result of this request, with unchanged graphs.

    The catalogue file may have been edited since: users fill in the licence of the weights.
    """
    catalogue = request.catalogue(folder)
    if not catalogue.is_file() or is_users_own(catalogue):
        return False
    origin = _origin(request)
    return all(records.vouched(graph, origin) is not None for graph in request.graphs(folder))


def note_built(request: BuildRequest, folder: Path) -> None:
    """Record which request the graphs in `folder` were built for. Raises OSError."""
    origin = _origin(request)
    for graph in request.graphs(folder):
        records.write(graph, graph, origin, records.sha256(graph))


def size_in(filename: str) -> tuple[int, int] | None:
    """The (height, width) in a checkpoint's file name (pose_hrnet_w48_384x288.pth), or None."""
    found = re.search(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", filename)
    return None if found is None else (int(found[1]), int(found[2]))


def _origin(request: BuildRequest) -> str:
    return f"posewire build {request.digest}"


def is_users_own(path: Path) -> bool:
    """True if `path` is a catalogue file that was not generated."""
    return path.exists() and not path.read_bytes().startswith(FIRST_WORDS.encode())


def entry_text(name: str, remark: str, keys: Mapping[str, object], pixels: PixelInput) -> str:
    """The text of the entry of the model `name` in a catalogue file, after the comment `remark`.

    keys: see `engines.catalogue.schema`, without `input`. None and empty values are left out.
    """
    side = {"width": pixels.width, "height": pixels.height, "order": pixels.order}
    table: dict[str, object] = {**keys, "input": side | {"mean": pixels.mean, "std": pixels.std, "pad": pixels.pad}}
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if value not in (None, "", {}, ())]
    return "\n".join([remark, f"[models.{json.dumps(name)}]", *lines]) + "\n"


def _toml(value: object) -> str:
    """A TOML value. Quoted strings, numbers and booleans are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML has no surrogate pairs
