"""A plan and its manifest: what it was built from and for, its accuracy reports, and whether it fits this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, TypeAdapter

from engines.inputs import PixelInput, TensorSpec
from engines.plans.flavour import Flavour, find_flavour, target_of
from engines.plans.gpu import Gpu

_FORMAT = 1


class PlanError(RuntimeError):
    """A plan is missing, damaged, or does not fit; the message says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The JSON file beside a plan.

    key: the digest of the plan's `PlanKey`. onnx_sha256: of the graph that the plan was built from.
    flavour, version, gpu: the TensorRT that built it and the GPUs that it runs on, see `engines.plans.flavour`.
    asked, precision: the requested precision, and the one that passed the accuracy gate.
    batch_sizes: ascending; optimisation profile i of the plan is for batches of exactly batch_sizes[i] items.
    pixels: the preprocessing compiled into the plan. inputs, outputs: per item, -1 for a side that varies.
    gate: the accuracy gate's reports on the precisions that were tried, empty if it did not judge.
    evaluation_images: the digest of the images that it judged by, see `engines.build.accuracy_gate.images`; None for
    drawn images. built_at: ISO 8601. seconds: build time. format: of the manifest itself.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: str
    onnx_sha256: str
    plan_sha256: str
    flavour: str
    version: str
    gpu: str
    asked: str
    precision: str
    batch_sizes: tuple[int, ...]
    pixels: PixelInput | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    built_at: str
    seconds: float
    evaluation_images: str | None = None
    gate: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    format: int = _FORMAT

    def dump(self) -> str:
        return _MANIFEST.dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def parse(text: str) -> Manifest:
        """Read a manifest from JSON. Raises PlanError if it is not a manifest of this format."""
        try:
            manifest = _MANIFEST.validate_json(text)
        except (ValueError, TypeError) as error:
            raise PlanError(f"the manifest is damaged ({' '.join(str(error).split())})") from error
        if manifest.format != _FORMAT:
            raise PlanError(f"the manifest is not of format {_FORMAT}")
        return manifest


_MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan whose manifest has been read. Only `read` opens the plan itself."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """The plan at `path` with its manifest. Raises PlanError if either is missing or the manifest is damaged."""
        if not path.is_file():
            raise PlanError(f"there is no plan {path}")
        try:
            text = manifest_path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"{manifest_path(path)}: cannot be read ({error})") from error
        try:
            return cls(path, Manifest.parse(text))
        except PlanError as error:
            raise PlanError(f"{manifest_path(path)}: {error}") from error

    def read(self) -> bytes:
        """The plan for TensorRT to deserialise. Raises PlanError if it is not the one that was built."""
        try:
            plan = self.path.read_bytes()
        except OSError as error:
            raise PlanError(f"{self.path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(plan).hexdigest() != self.manifest.plan_sha256:
            raise PlanError(f"{self.path}: damaged; it is not what its manifest says was built")
        return plan

    @property
    def runtime_cache(self) -> Path:
        """The file beside the plan where TensorRT-RTX stores the kernels that it has compiled on the GPU."""
        return self.path.with_suffix(".runtime-cache")


def manifest_path(plan: Path) -> Path:
    return plan.with_suffix(".json")


def check_machine(manifest: Manifest, gpu: Gpu | None) -> Flavour:
    """Return the installed TensorRT that can run the plan on `gpu`.

    Raises PlanError for a plan of another version or another GPU, NoTensorRTError if no TensorRT of its kind is
    installed.
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
    """Return the batch sizes of the plan up to `max_batch`. Raises ValueError if the plan was built for other options.

    precision: "auto" accepts any. max_batch: None accepts all batch sizes.
    """
    if precision not in ("auto", manifest.precision):
        raise ValueError(f"the plan computes in {manifest.precision}, not in {precision}; build it for that")
    if max_batch is not None and max_batch not in manifest.batch_sizes:
        batch_sizes = ", ".join(map(str, manifest.batch_sizes))
        raise ValueError(f"the plan has no batch size of {max_batch}, only {batch_sizes}; build it for that batch")
    if pixels != manifest.pixels:
        raise ValueError(f"the plan was built for {manifest.pixels}, not for {pixels}; build it for that")
    have = [spec.name for spec in manifest.outputs]
    if outputs is not None and set(outputs) != set(have):
        raise ValueError(f"the plan gives {', '.join(have)}, not {', '.join(outputs)}; build it for these outputs")
    return tuple(batch_size for batch_size in manifest.batch_sizes if max_batch is None or batch_size <= max_batch)
