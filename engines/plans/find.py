"""Finds the file of a TensorRT plan by its key. `service.inference.backend_choice` chooses what a network runs on.

The key is everything that a plan depends on.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from engines.catalogue.fetch.records import sha256, vouched
from engines.inputs import PixelInput, batch_sizes_up_to
from engines.plans.flavour import Flavour
from engines.plans.manifest import PlanError, PlanFile

Precision = Literal["fp32", "bf16", "fp16", "int8"]
_RECIPE = 1  # incremented whenever this package builds a different plan from the same graph


class PlanBuildError(RuntimeError):
    """TensorRT cannot build a plan of this graph; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that invalidates a plan: if one field differs, it is another plan.

    onnx_sha256: of the graph. flavour, version, gpu: see `engines.plans.flavour`. precision, batch_sizes: as ordered.
    """

    onnx_sha256: str
    flavour: str
    version: str
    gpu: str
    precision: str
    batch_sizes: tuple[int, ...]
    pixels: PixelInput | None = None
    outputs: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        """A hash of the whole key, 16 hexadecimal digits."""
        text = json.dumps(asdict(self) | {"recipe": _RECIPE}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def file_name(self, stem: str) -> str:
        """The plan's file name. stem: names the model.

        The readable parts are for people; the digest at the end covers the whole key.
        """
        word = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:60].strip(".-") or "model"
        graph = f"{word}-{self.onnx_sha256[:8]}-{self.precision}-b{self.batch_sizes[-1]}"
        return f"{graph}-{self.flavour}{self.version}-{self.gpu}-{self.digest}.plan"


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """A plan to build or to find.

    onnx: the graph, in fp32. name: the beginning of the plan's file name, by default that of the graph's.
    pixels, outputs: as for `engines.runtimes.open_runtime`. max_batch: the largest batch size, 1..1024.
    """

    onnx: Path
    precision: Precision = "fp16"
    max_batch: int = 32
    pixels: PixelInput | None = None
    outputs: tuple[str, ...] | None = None
    name: str | None = None

    def key(self, flavour: Flavour) -> PlanKey:
        """The key of the plan if `flavour` builds it.

        Raises PlanBuildError if the graph is missing or not ONNX, ValueError if max_batch is out of range.
        """
        if self.onnx.suffix != ".onnx":
            raise PlanBuildError(f"{self.onnx} is no ONNX graph; plans are built of nothing else")
        try:
            digest = vouched(self.onnx) or sha256(self.onnx)
        except OSError as error:
            raise PlanBuildError(f"{self.onnx}: cannot be read ({error.strerror})") from error
        if not 1 <= self.max_batch <= 1024:
            raise ValueError(f"the largest batch must be 1..1024, not {self.max_batch}")
        builder, sizes = (flavour.name, flavour.version, flavour.target), batch_sizes_up_to(self.max_batch)
        return PlanKey(digest, *builder, self.precision, sizes, self.pixels, self.outputs)

    def path(self, cache_dir: Path, key: PlanKey) -> Path:
        return cache_dir / key.file_name(self.name or self.onnx.stem)


def find_plan(order: PlanOrder, cache_dir: Path, flavour: Flavour, judged_by: str | None = None) -> PlanFile | None:
    """The plan of this order, if `cache_dir` has it undamaged and built for this machine; else None.

    judged_by: the digest of the evaluation images that the plan must have been judged by, None to accept any.
    """
    key = order.key(flavour)
    try:
        plan = PlanFile.open(order.path(cache_dir, key))
        plan.read()
    except PlanError:
        return None
    fits = plan.manifest.key == key.digest and judged_by in (None, plan.manifest.evaluation_images)
    return plan if fits else None
