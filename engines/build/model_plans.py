"""The plan order of a catalogue model, and the folder and runtime of its plans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engines.catalogue import CatalogueError, Model
from engines.families import open_detector, open_estimator, open_one_stage_model
from engines.plans.find import PlanOrder
from engines.plans.flavour import Flavour
from engines.plans.gpu import find_gpu
from engines.runtimes import Runtime, open_runtime

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision


def order_for(model: Model, precision: Precision, max_batch: int) -> PlanOrder:
    """The order for a plan of the model, whose files are fetched if needed. Raises FetchError and CatalogueError."""
    if model.role == "embedder":
        raise CatalogueError(f"{model.name} is an embedder, which runs without a plan")
    if model.role == "detector":
        outputs = open_detector(model).outputs
    else:
        outputs = open_estimator(model).outputs if model.role == "estimator" else open_one_stage_model(model).outputs
    return PlanOrder(model.fetch(), precision, max_batch, model.input, outputs, model.name)


def plan_runner(order: PlanOrder, flavour: Flavour) -> Callable[[Path], Runtime] | None:
    """A function that opens plans of this order, or None without a GPU and a TensorRT that runs them."""
    if find_gpu() is None or not flavour.runs:
        return None
    return lambda plan: open_runtime(plan, "tensorrt", pixels=order.pixels)


def plans_folder(model: Model) -> Path:
    return model.cache / "plans"
