"""A plan and the manifest beside it: what it was built from, for what, and what the accuracy gate said of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from engines.runtimes.base import PixelInput, TensorSpec

_FORMAT = 1


class PlanError(RuntimeError):
    """A plan that is not there, is damaged, or does not fit; the message says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The JSON beside a plan.

    key: of all that invalidates the plan, see `engines.plans.key`. onnx_sha256: of the graph that it was built from.
    flavour, version, gpu: the TensorRT that built it and the GPUs that it runs on, see `engines.plans.flavour`.
    asked, precision: the precision that was asked for, and the one that the accuracy gate let pass.
    rungs: batch sizes, ascending; optimisation profile i of the plan is for batches of rungs[i] exactly.
    pixels: the preprocessing folded into it. inputs, outputs: per item, -1 where a side varies.
    gate: the accuracy gate's reports on what was tried, none where it did not judge. evidence: the digest of the
    images that it judged by, see `engines.build.accuracy_gate.images`; None for drawn ones. built_at: ISO 8601.
    seconds: how long building took.
    """

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

    def dump(self) -> str:
        """As JSON."""
        table = asdict(self) | {
            "format": _FORMAT,
            "inputs": [_tensor(spec) for spec in self.inputs],
            "outputs": [_tensor(spec) for spec in self.outputs],
        }
        return json.dumps(table, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON. Raises PlanError where it is not a manifest of this format."""
        try:
            table = json.loads(text)
            if table.pop("format") != _FORMAT:
                raise PlanError(f"the manifest is not of format {_FORMAT}")
            table["batch_sizes"] = tuple(table["batch_sizes"])
            table["pixels"] = None if table["pixels"] is None else _pixels(table["pixels"])
            table["gate"] = tuple(dict(report) for report in table["gate"])
            table["inputs"] = tuple(TensorSpec(**_spec(spec)) for spec in table["inputs"])
            table["outputs"] = tuple(TensorSpec(**_spec(spec)) for spec in table["outputs"])
            return cls(**table)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PlanError(f"the manifest is damaged ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan whose manifest has been read. Only `read` looks at the plan itself."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """The plan at `path` with its manifest. Raises PlanError where one is missing or the manifest is damaged."""
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
        """The plan, for TensorRT to deserialise. Raises PlanError where it is not the one that was built."""
        try:
            plan = self.path.read_bytes()
        except OSError as error:
            raise PlanError(f"{self.path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(plan).hexdigest() != self.manifest.plan_sha256:
            raise PlanError(f"{self.path}: damaged; it is not what its manifest says was built")
        return plan

    @property
    def runtime_cache(self) -> Path:
        """Where TensorRT-RTX keeps what it compiles on the GPU, beside the plan."""
        return self.path.with_suffix(".runtime-cache")


def manifest_path(plan: Path) -> Path:
    """Where the manifest of `plan` is."""
    return plan.with_suffix(".json")


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype.name}


def _spec(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, "shape": tuple(table["shape"]), "dtype": np.dtype(table["dtype"])}


def _pixels(table: Mapping[str, Any]) -> PixelInput:
    return PixelInput(**{**table, "mean": tuple(table["mean"]), "std": tuple(table["std"])})
