"""The plan that is wanted, and whether it is in the folder of plans already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.catalogue.fetch.records import sha256, vouched
from engines.plans.flavour import Flavour
from engines.plans.key import PlanKey, ladder
from engines.plans.manifest import PlanError, PlanFile
from engines.runtimes.base import PixelInput

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision  # needs onnx, which looking for a plan does not


class PlanBuildError(RuntimeError):
    """TensorRT does not build a plan of this graph; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """The plan that is wanted.

    onnx: the graph, in fp32. name: what to call the plan's file; None: after the graph's.
    pixels, outputs: as for `engines.runtimes.open_runtime`. max_batch: the largest rung.
    """

    onnx: Path
    precision: Precision = "fp16"
    max_batch: int = 32
    pixels: PixelInput | None = None
    outputs: tuple[str, ...] | None = None
    name: str | None = None

    def key(self, flavour: Flavour) -> PlanKey:
        """What the plan depends on, if this TensorRT builds it. Raises PlanBuildError where there is no such graph."""
        if self.onnx.suffix != ".onnx":
            raise PlanBuildError(f"{self.onnx} is no ONNX graph; plans are built of nothing else")
        try:
            digest = vouched(self.onnx) or sha256(self.onnx)
        except OSError as error:
            raise PlanBuildError(f"{self.onnx}: cannot be read ({error.strerror})") from error
        batch_sizes = ladder(self.max_batch)
        return PlanKey(
            digest,
            flavour.name,
            flavour.version,
            flavour.target,
            self.precision,
            batch_sizes,
            self.pixels,
            self.outputs,
        )

    def path(self, cache_dir: Path, key: PlanKey) -> Path:
        """Where the plan is, once it is."""
        return cache_dir / key.file_name(self.name or self.onnx.stem)


def find_plan(order: PlanOrder, cache_dir: Path, flavour: Flavour, judged_by: str | None = None) -> PlanFile | None:
    """The plan of this order if it is in `cache_dir`, whole, and made for this machine; never another.

    judged_by: the digest of the images that it must have been judged by, None where any will do.
    """
    key = order.key(flavour)
    try:
        plan = PlanFile.open(order.path(cache_dir, key))
        plan.read()
    except PlanError:
        return None
    fits = plan.manifest.key == key.digest and judged_by in (None, plan.manifest.evaluation_images)
    return plan if fits else None
