"""ONNX to a TensorRT plan in a folder of plans: found there if it fits, or else built, once, whoever asks."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from engines.build.builder import EngineBuilder, Progress
from engines.build.files import write_whole
from engines.build.flavour import Flavour
from engines.build.key import PlanKey
from engines.build.manifest import Manifest, PlanFile, manifest_path
from engines.build.pixels import prepare
from engines.build.plans import PlanBuildError, PlanOrder, find_plan
from engines.build.precision import PrecisionError, convert
from engines.build.suppression import cut_suppression
from engines.locks import locked
from engines.runtimes import open_runtime


def build_plan(
    order: PlanOrder,
    cache_dir: Path,
    flavour: Flavour,
    *,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> PlanFile:
    """The plan of this order: from `cache_dir`, or built into it, where it then appears whole or not at all.

    waiting: called if another process is building it; its plan is then the one returned. Raises PlanBuildError.
    """
    key = order.key(flavour)
    path = order.path(cache_dir, key)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), waiting):
        if (found := find_plan(order, cache_dir, flavour)) is not None:
            return found
        for stale in cache_dir.glob(f".{path.stem}-*"):  # of a builder that was killed: only the lock's holder writes
            stale.unlink()
        return _build(order, key, path, flavour, progress)


def _build(order: PlanOrder, key: PlanKey, path: Path, flavour: Flavour, progress: Progress | None) -> PlanFile:
    if not flavour.builds:
        raise PlanBuildError(f"{flavour.name} {flavour.version} here only runs plans: pip install 'posewire[tensorrt]'")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="posewire-build-") as folder:
        graph = _graph(order, Path(folder))
        engine = EngineBuilder(flavour, graph.read_bytes())
        rungs = key.rungs if _batches(graph) else (1,)
    plan = engine.build(rungs, path.parent / f"{key.flavour}{key.version}-{key.gpu}.timings", progress)
    manifest = Manifest(
        key=key.digest,
        onnx_sha256=key.onnx_sha256,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        flavour=flavour.name,
        version=flavour.version,
        gpu=flavour.target,
        asked=order.precision,
        precision=order.precision,
        rungs=rungs,
        pixels=order.pixels,
        inputs=engine.inputs,
        outputs=engine.outputs,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 3),
    )
    return _publish(path, plan, manifest)


def _graph(order: PlanOrder, folder: Path) -> Path:
    """The graph of the order as TensorRT is to build it, in `folder`."""
    plain, converted, whole = (folder / f"{stage}.onnx" for stage in ("plain", "converted", "whole"))
    try:
        onnx.save(prepare(cut_suppression(onnx.load(order.onnx)), outputs=order.outputs), plain)
        convert(plain, converted, order.precision)
        onnx.save(prepare(onnx.load(converted), order.pixels), whole)
    except DecodeError as error:
        raise PlanBuildError(f"{order.onnx} is no ONNX graph, or is damaged") from error
    except (ValueError, PrecisionError, onnx.shape_inference.InferenceError) as error:
        raise PlanBuildError(f"{order.onnx}: {error}") from error
    return whole


def _batches(graph: Path) -> bool:
    """Whether the items of a batch come out as they do alone: many graphs take a batch and mix its items.

    OpenVINO tells, as TensorRT could only on a GPU. A graph that only TensorRT runs gets a plan for one.
    """
    try:
        runtime = open_runtime(graph, precision="fp32", max_batch=2)
    except RuntimeError:
        return False
    try:
        return runtime.spec.max_batch == 2
    finally:
        runtime.close()


def _publish(path: Path, plan: bytes, manifest: Manifest) -> PlanFile:
    """The plan first: a plan without its manifest is none."""
    manifest_path(path).unlink(missing_ok=True)
    write_whole(path, plan)
    write_whole(manifest_path(path), manifest.dump().encode())
    return PlanFile(path, manifest)
