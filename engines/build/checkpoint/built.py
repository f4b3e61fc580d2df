"""A build request for a checkpoint, the files it leads to, and the test for whether they exist. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engines.catalogue.fetch import records
from engines.inputs import PixelInput

FIRST_WORDS = "# Built by `posewire build"
"""The beginning of every generated catalogue file. A file that begins otherwise is the user's own and is not touched.
"""

_RECIPE = 1  # incremented when this package builds another graph or another entry from the same checkpoint


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A model to build from a checkpoint.

    architecture: one of `engines.networks.NETWORKS`. size: height and width of the input; None takes the size in the
    checkpoint's file name, or else the authors' default.
    skeleton: None takes COCO's for 17 keypoints and MPII's for 16.
    detector: the model that finds the people, None for whole frames; bottom-up networks have none.
    """

    architecture: str
    checkpoint: Path
    name: str
    size: tuple[int, int] | None = None
    skeleton: str | None = None
    detector: str | None = None

    def graph(self, folder: Path) -> Path:
        return folder / f"{self.name}.onnx"

    def catalogue(self, folder: Path) -> Path:
        return folder / f"{self.name}.toml"

    @property
    def digest(self) -> str:
        """A digest of everything the result depends on, including the checkpoint's content. Raises OSError."""
        content = records.sha256(self.checkpoint)
        fields = asdict(self) | {"checkpoint": (self.checkpoint.name, content), "recipe": _RECIPE}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def is_built(request: BuildRequest, folder: Path) -> bool:
    """True if `folder` holds the result of this request, with an unchanged graph.

    The catalogue file may have been edited since: users fill in the licence of the weights.
    """
    graph, catalogue = request.graph(folder), request.catalogue(folder)
    if not catalogue.is_file() or is_users_own(catalogue):
        return False
    return records.vouched(graph, _origin(request)) is not None


def note_built(request: BuildRequest, folder: Path) -> None:
    """Record which request the graph in `folder` was built for. Raises OSError."""
    graph = request.graph(folder)
    records.write(graph, graph, _origin(request), records.sha256(graph))


def _origin(request: BuildRequest) -> str:
    return f"posewire build {request.digest}"


def is_users_own(path: Path) -> bool:
    """True if `path` is a catalogue file that was not generated."""
    return path.exists() and not path.read_bytes().startswith(FIRST_WORDS.encode())


def entry_text(name: str, remark: str, keys: Mapping[str, object], pixels: PixelInput) -> str:
    """The text of a catalogue file with the single model `name`, after the comment `remark`.

    keys: see `engines.catalogue.schema`, without `input`. None and empty values are left out.
    """
    side = {"width": pixels.width, "height": pixels.height, "order": pixels.order}
    table: dict[str, object] = {**keys, "input": side | {"mean": pixels.mean, "std": pixels.std, "pad": pixels.pad}}
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if value not in (None, "", {})]
    return "\n".join([remark, f"[models.{json.dumps(name)}]", *lines]) + "\n"


def _toml(value: object) -> str:
    """A TOML value. Quoted strings, numbers and booleans are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML has no surrogate pairs
