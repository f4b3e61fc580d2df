"""`posewire build MODEL`: TensorRT plans of catalogue models."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engines.build.accuracy_gate.images import CalibrationError, images_digest
from engines.build.model_plans import order_for, plan_runner, plans_folder
from engines.catalogue import Catalogue, Model
from engines.plans.find import PlanBuildError, PlanOrder, find_plan
from engines.plans.flavour import Flavour, find_flavour, find_lean_builder
from engines.plans.gpu import find_gpu
from service.cli.output import file_error

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision
    from engines.plans.manifest import Manifest


def build_plans(
    catalogue: Catalogue,
    names: Sequence[str],
    precision: Precision,
    max_batch: int,
    images: Path | None,
    *,
    lean: bool = False,
) -> None:
    """Build the plan of each model in `names` unless it exists, and report it. lean: for the lean runtime.

    Raises ClickException, with one line about the error, NoTensorRTError, FetchError and CatalogueError.
    """
    gpu = find_gpu()
    flavour = find_lean_builder(gpu) if lean else find_flavour(gpu)
    for name in names:
        model = catalogue[name]
        try:
            order, folder = order_for(model, precision, max_batch), plans_folder(model)
            judged_by = None if images is None else images_digest(images, model, catalogue)
            found = find_plan(order, folder, flavour, judged_by)
            if found is None:
                with _interruptible():
                    _build_plan(catalogue, model, order, flavour, images)
            else:
                click.echo(f"{name}: {found.path}\n  {_describe(found.manifest)}, already built")
        except (PlanBuildError, CalibrationError) as error:
            raise click.ClickException(f"{name}: {error}") from error
        except OSError as error:
            raise file_error(error, name) from error


def _build_plan(catalogue: Catalogue, model: Model, order: PlanOrder, flavour: Flavour, images: Path | None) -> None:
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise click.ClickException(f"building needs onnx and onnxscript: pip install 'posewire[{_extra(flavour)}]'")
    # These take seconds to import and are not needed to find a plan.
    from engines.build.accuracy_gate.evaluation_images import evaluation_images_for
    from engines.build.compile import build_plan

    built = False

    def progress(share: float, phase: str) -> None:
        nonlocal built
        built = True
        if sys.stderr.isatty():
            click.echo(f"\r{model.name}: {100 * share:3.0f} % ({phase})\x1b[K", nl=share == 1, err=True)

    def waiting() -> None:
        click.echo(f"{model.name}: waiting for another process that builds this plan", err=True)

    click.echo(f"{model.name}: building with {flavour.name} {flavour.version} for {flavour.target}", err=True)
    plan = build_plan(
        order,
        plans_folder(model),
        flavour,
        evaluation_images=evaluation_images_for(model, catalogue, images),
        run=plan_runner(order, flavour),
        progress=progress,
        waiting=waiting,
    )
    took = f"in {plan.manifest.seconds:.1f} s" if built else "already built"
    click.echo(f"{model.name}: {plan.path}\n  {_describe(plan.manifest)}, {took}")
    for report in plan.manifest.gate:
        verdict = "passed" if report["passed"] else "refused: " + "; ".join(report["failures"])
        click.echo(
            f"  accuracy gate: {report['precision']} {verdict} ({report['crops']} crops, {report['compared']} compared)"
        )
    if not plan.manifest.gate and plan.manifest.precision != "fp32":
        click.echo("  accuracy gate: not judged; that needs ONNX Runtime: pip install 'posewire[onnxruntime]'")


def _describe(manifest: Manifest) -> str:
    asked = "" if manifest.asked == manifest.precision else f" in place of {manifest.asked}"
    return f"{manifest.precision}{asked}, batches of {', '.join(map(str, manifest.batch_sizes))}"


def _extra(flavour: Flavour) -> str:
    return "rtx" if flavour.name.endswith("rtx") else "tensorrt"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process at once: TensorRT would delay it for minutes, and no partial files are kept."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
