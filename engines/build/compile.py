"""Finds the TensorRT plan for an order in a folder of plans, or builds it there, once for all processes."""

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

from engines.build.accuracy_gate.candidates import CandidateGraphs, NotJudgedError
from engines.build.accuracy_gate.evaluation_images import EvaluationImages
from engines.build.accuracy_gate.gate import GateReport, choose
from engines.build.builder import EngineBuilder, Progress
from engines.build.precision.convert import Precision
from engines.files import write_atomically
from engines.locks import locked
from engines.plans.find import PlanBuildError, PlanKey, PlanOrder, find_plan
from engines.plans.flavour import Flavour
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
    """The plan for this order: found in `cache_dir`, or built and written there atomically.

    evaluation_images: for the calibration of int8 and the accuracy gate; None skips the gate. An existing plan is
    reused unless it was judged on other images.
    run: opens a plan on a GPU, so that the plan itself is judged; if None, the graph it is built from is judged.
    waiting: called while another process builds the same plan, which is then returned. Raises PlanBuildError.
    """
    key = order.key(flavour)
    path = order.path(cache_dir, key)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), waiting):
        found = find_plan(order, cache_dir, flavour, None if evaluation_images is None else evaluation_images.digest)
        if found is not None:
            return found
        for stale in cache_dir.glob(f".{path.stem}-*"):  # left by a killed builder: only the holder of the lock writes
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
        candidates = CandidateGraphs(order, Path(folder))

        def build(precision: Precision) -> _Built:
            graph = candidates.graph(precision, evaluation_images)
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

        pixels = order.pixels
        if run is None or evaluation_images is None or pixels is None:
            precision, reports = _choose(candidates, order, evaluation_images)
            built = build(precision)
        else:

            def judge(precision: Precision, built: _Built) -> GateReport:
                draft = Path(folder) / f"{precision}.plan"
                _publish(draft, *built)
                try:
                    runtime = run(draft)
                except (RuntimeError, ValueError) as error:
                    raise PlanBuildError(f"the plan does not run here: {error}") from error
                with closing(runtime):
                    return candidates.compare(precision, runtime, evaluation_images, pixels)

            built, reports = choose(order.precision, build, judge)
    seconds = round(time.monotonic() - started, 3)
    gate = tuple(json.loads(report.to_json()) for report in reports)
    return built._replace(manifest=replace(built.manifest, seconds=seconds, gate=gate))


def _choose(
    candidates: CandidateGraphs, order: PlanOrder, evaluation_images: EvaluationImages | None
) -> tuple[Precision, Sequence[GateReport]]:
    """The requested precision, or the first fallback that passes the gate, and the gate's reports.

    A graph that no runtime here can compute as TensorRT will is accepted without a judgement or a report.
    """
    pixels = order.pixels
    if evaluation_images is None or pixels is None:
        return order.precision, ()

    def build(precision: Precision) -> Precision:
        candidates.graph(precision, evaluation_images)
        return precision

    def judge(precision: Precision, _: Precision) -> GateReport:
        return candidates.judge(precision, evaluation_images, pixels)

    try:
        return choose(order.precision, build, judge)
    except NotJudgedError as error:
        _logger.warning("the %s plan of %s is not judged: %s", order.precision, order.onnx.name, error)
        return order.precision, ()


def _batches(graph: Path) -> bool:
    """True if the graph computes the items of a batch independently: many graphs take a batch and mix its items.

    OpenVINO is used for the test, because TensorRT needs a GPU. Plans of graphs that only TensorRT runs are for
    batches of one.
    """
    try:
        runtime = open_runtime(graph, precision="fp32", max_batch=2)
    except RuntimeError:
        return False
    with closing(runtime):
        return runtime.spec.max_batch == 2


def _publish(path: Path, plan: bytes, manifest: Manifest) -> PlanFile:
    """Write the plan, then its manifest: a plan without a manifest is ignored."""
    manifest_path(path).unlink(missing_ok=True)
    write_atomically(path, plan)
    write_atomically(manifest_path(path), manifest.dump().encode())
    return PlanFile(path, manifest)
