"""From a catalogue model to the plan that serves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engines.catalogue.models import Model
from engines.families import open_detector, open_estimator, open_finder
from engines.plans.flavour import Flavour
from engines.plans.gpu import find_gpu
from engines.plans.lookup import PlanOrder
from engines.runtimes import Runtime, open_runtime

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision


def order_for(model: Model, precision: Precision, max_batch: int) -> PlanOrder:
    """The plan of a model whose files are here or can be fetched. Raises FetchError and CatalogueError."""
    if model.role == "detector":
        outputs = open_detector(model).outputs
    else:
        outputs = open_estimator(model).outputs if model.role == "estimator" else open_finder(model).outputs
    return PlanOrder(model.fetch(), precision, max_batch, model.input, outputs, model.name)


def plan_runner(order: PlanOrder, flavour: Flavour) -> Callable[[Path], Runtime] | None:
    """Opens plans of this order, where there is a GPU to run them and what they are built for."""
    if find_gpu() is None or not flavour.runs:
        return None
    return lambda plan: open_runtime(plan, "tensorrt", pixels=order.pixels)


def plans_folder(model: Model) -> Path:
    """Where plans of the model are kept."""
    return model.cache / "plans"
