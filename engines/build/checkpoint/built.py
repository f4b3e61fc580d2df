"""What a checkpoint was built into, so that the same order finds it there. Without torch, which building it needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from engines.build.checkpoint.entry import is_users_own
from engines.catalogue.fetch import records

_RECIPE = 1  # goes up where this package makes another graph or another entry of the same checkpoint


@dataclass(frozen=True, slots=True)
class Order:
    """What to build.

    architecture: one of `engines.networks.NETWORKS`. size: height and width of the input; None takes what the
    checkpoint's name says, or else the authors' first.
    skeleton: None takes COCO's where there are 17 keypoints, MPII's where there are 16.
    detector: the model that finds the people, None to look at whole frames; bottom-up networks have none.
    """

    architecture: str
    checkpoint: Path
    name: str
    size: tuple[int, int] | None = None
    skeleton: str | None = None
    detector: str | None = None

    def graph(self, folder: Path) -> Path:
        """Where its ONNX graph goes."""
        return folder / f"{self.name}.onnx"

    def catalogue(self, folder: Path) -> Path:
        """Where its catalogue file goes."""
        return folder / f"{self.name}.toml"

    @property
    def digest(self) -> str:
        """Of all that the result depends on, the checkpoint's content included. Raises OSError."""
        content = records.sha256(self.checkpoint)
        order = asdict(self) | {"checkpoint": (self.checkpoint.name, content), "recipe": _RECIPE}
        return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()


def is_built(order: Order, folder: Path) -> bool:
    """Whether this very order was built into `folder`, and the graph is as it was then.

    The catalogue file may have been edited since: what licence the weights have is for its user to say.
    """
    graph, catalogue = order.graph(folder), order.catalogue(folder)
    if not catalogue.is_file() or is_users_own(catalogue):
        return False
    return records.vouched(graph, _origin(order)) is not None


def note_built(order: Order, folder: Path) -> None:
    """Note what the graph in `folder` is, now that it is there. Raises OSError."""
    graph = order.graph(folder)
    records.write(graph, graph, _origin(order), records.sha256(graph))


def _origin(order: Order) -> str:
    return f"posewire build {order.digest}"
