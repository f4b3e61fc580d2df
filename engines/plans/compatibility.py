"""Whether a plan fits what is asked of it and the machine it is to run on: never one that is for another."""

from __future__ import annotations

from collections.abc import Sequence

from engines.plans.flavour import Flavour, find_flavour, target_of
from engines.plans.gpu import Gpu
from engines.plans.manifest import Manifest, PlanError
from engines.runtimes.base import PixelInput


def check_machine(manifest: Manifest, gpu: Gpu | None) -> Flavour:
    """The installed TensorRT that made the plan, where it can run it on `gpu`.

    Raises PlanError for a plan of another version or another GPU, NoTensorRTError where there is none of its kind.
    """
    flavour = find_flavour(gpu, [manifest.flavour])
    if flavour.version != manifest.version:
        raise PlanError(
            f"the plan is by {manifest.flavour} {manifest.version}, and {flavour.version} is installed; build it again"
        )
    here = target_of(manifest.flavour, gpu)
    if here != manifest.gpu:
        raise PlanError(f"the plan is for {manifest.gpu}, and this machine's GPU is {here}; build it here")
    return flavour


def check_options(
    manifest: Manifest,
    precision: str,
    max_batch: int | None,
    pixels: PixelInput | None,
    outputs: Sequence[str] | None,
) -> tuple[int, ...]:
    """The rungs of the plan that are to be used. Raises ValueError where the plan was built for something else."""
    if precision not in ("auto", manifest.precision):
        raise ValueError(f"the plan computes in {manifest.precision}, not in {precision}; build it for that")
    if max_batch is not None and max_batch not in manifest.batch_sizes:
        batch_sizes = ", ".join(map(str, manifest.batch_sizes))
        raise ValueError(f"the plan has no rung of {max_batch}, only {batch_sizes}; build it for that batch")
    if pixels != manifest.pixels:
        raise ValueError(f"the plan was built for {manifest.pixels}, not for {pixels}; build it for that")
    have = [spec.name for spec in manifest.outputs]
    if outputs is not None and set(outputs) != set(have):
        raise ValueError(f"the plan gives {', '.join(have)}, not {', '.join(outputs)}; build it for these outputs")
    return tuple(batch_size for batch_size in manifest.batch_sizes if max_batch is None or batch_size <= max_batch)
