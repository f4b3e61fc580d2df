"""ONNX to a TensorRT plan in a folder of plans: found there if it fits, or else built, once, whoever asks."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from engines.build.accuracy_gate.attempts import NotJudgedError, Workshop
from engines.build.accuracy_gate.evaluation_images import EvaluationImages
from engines.build.accuracy_gate.gate import GateReport, choose
from engines.build.builder import EngineBuilder, Progress
from engines.build.precision.convert import Precision
from engines.files import write_atomically
from engines.inputs import PixelInput
from engines.locks import locked
from engines.plans.flavour import Flavour
from engines.plans.lookup import PlanBuildError, PlanKey, PlanOrder, find_plan
from engines.plans.manifest import Manifest, PlanFile, manifest_path
from engines.runtimes import Runtime, open_runtime

_logger = logging.getLogger(__name__)


class _Built(NamedTuple):
    plan: bytes
    manifest: Manifest


def build_plan(
    order: PlanOrder,
    cache_dir: Path,
    flavour: Flavour,
    *,
    evaluation_images: EvaluationImages | None = None,
    run: Callable[[Path], Runtime] | None = None,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> PlanFile:
    """The plan of this order: from `cache_dir`, or built into it, where it then appears whole or not at all.

    evidence: what int8 is calibrated on and every precision judged by; without it there is no judging. A plan that is
    there is taken as it is, unless it was judged by other images than those of the evidence.
    run: opens a plan where there is a GPU, so that the plan itself is judged, and not the graph that it is made of.
    waiting: called if another process is building it; its plan is then the one returned. Raises PlanBuildError.
    """
    key = order.key(flavour)
    path = order.path(cache_dir, key)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), waiting):
        found = find_plan(order, cache_dir, flavour, None if evaluation_images is None else evaluation_images.digest)
        if found is not None:
            return found
        for stale in cache_dir.glob(f".{path.stem}-*"):  # of a builder that was killed: only the lock's holder writes
            stale.unlink()
        built = _build(order, key, path, flavour, evaluation_images, run, progress)
        return _publish(path, *built)


def _build(
    order: PlanOrder,
    key: PlanKey,
    path: Path,
    flavour: Flavour,
    evaluation_images: EvaluationImages | None,
    run: Callable[[Path], Runtime] | None,
    progress: Progress | None,
) -> _Built:
    if not flavour.builds:
        raise PlanBuildError(
            f"TensorRT's lean runtime {flavour.version} only runs plans: `posewire build --lean` makes them "
            f"on a machine with such a GPU and posewire[tensorrt], of that version"
        )
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="posewire-build-") as folder:
        workshop = Workshop(order, Path(folder))

        def build(precision: Precision) -> _Built:
            graph = workshop.graph(precision, evaluation_images)
            engine = EngineBuilder(flavour, graph.read_bytes())
            batch_sizes = key.batch_sizes if _batches(graph) else (1,)
            plan = engine.build(batch_sizes, path.parent / f"{key.flavour}{key.version}-{key.gpu}.timings", progress)
            manifest = Manifest(
                key=key.digest,
                onnx_sha256=key.onnx_sha256,
                plan_sha256=hashlib.sha256(plan).hexdigest(),
                flavour=flavour.name,
                version=flavour.version,
                gpu=flavour.target,
                asked=order.precision,
                precision=precision,
                batch_sizes=batch_sizes,
                pixels=order.pixels,
                inputs=engine.inputs,
                outputs=engine.outputs,
                built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=0.0,
                evaluation_images=None if evaluation_images is None else evaluation_images.digest,
            )
            return _Built(plan, manifest)

        if run is None or evaluation_images is None or order.pixels is None:
            precision, reports = _choose(workshop, order, evaluation_images)
            built = build(precision)
        else:
            judge = _plan_judge(workshop, evaluation_images, order.pixels, run, Path(folder))
            built, reports = choose(order.precision, build, judge)
    seconds = round(time.monotonic() - started, 3)
    gate = tuple(json.loads(report.to_json()) for report in reports)
    return built._replace(manifest=replace(built.manifest, seconds=seconds, gate=gate))


def _plan_judge(
    workshop: Workshop,
    evaluation_images: EvaluationImages,
    pixels: PixelInput,
    run: Callable[[Path], Runtime],
    folder: Path,
) -> Callable[[Precision, _Built], GateReport]:
    def judge(precision: Precision, built: _Built) -> GateReport:
        draft = folder / f"{precision}.plan"
        _publish(draft, *built)
        try:
            runtime = run(draft)
        except (RuntimeError, ValueError) as error:
            raise PlanBuildError(f"the plan does not run here: {error}") from error
        with closing(runtime):
            return workshop.compare(precision, runtime, evaluation_images, pixels)

    return judge


def _choose(
    workshop: Workshop, order: PlanOrder, evaluation_images: EvaluationImages | None
) -> tuple[Precision, Sequence[GateReport]]:
    """The precision asked for, or the first after it that the gate lets pass, and what the gate said of each.

    What nothing here computes as TensorRT will is taken unjudged, and has no report.
    """
    pixels = order.pixels
    if evaluation_images is None or pixels is None:
        return order.precision, ()

    def build(precision: Precision) -> Precision:
        workshop.graph(precision, evaluation_images)
        return precision

    def judge(precision: Precision, _: Precision) -> GateReport:
        return workshop.judge(precision, evaluation_images, pixels)

    try:
        return choose(order.precision, build, judge)
    except NotJudgedError as error:
        _logger.warning("the %s plan of %s is not judged: %s", order.precision, order.onnx.name, error)
        return order.precision, ()


def _batches(graph: Path) -> bool:
    """Whether the items of a batch come out as they do alone: many graphs take a batch and mix its items.

    OpenVINO tells, as TensorRT could only on a GPU. A graph that only TensorRT runs gets a plan for one.
    """
    try:
        runtime = open_runtime(graph, precision="fp32", max_batch=2)
    except RuntimeError:
        return False
    with closing(runtime):
        return runtime.spec.max_batch == 2


def _publish(path: Path, plan: bytes, manifest: Manifest) -> PlanFile:
    """The plan first: a plan without its manifest is none."""
    manifest_path(path).unlink(missing_ok=True)
    write_atomically(path, plan)
    write_atomically(manifest_path(path), manifest.dump().encode())
    return PlanFile(path, manifest)
