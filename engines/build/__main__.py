"""Builds one plan in a process of its own, for a server that goes on serving.

    python -m engines.build MODEL PRECISION MAX_BATCH

What becomes of it goes to stdout, a JSON object a line: {"share", "phase"} while it is built, at last {"plan"} or
{"error"}. When stdin ends, whoever ordered is gone, and so is this.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from engines.build.accuracy_gate.evaluation_images import evidence_for
from engines.build.compile import build_plan
from engines.build.models import order_for, plan_runner, plans_folder
from engines.catalogue.models import CatalogueError, FetchError, load
from engines.plans.flavour import NoTensorRTError, find_flavour
from engines.plans.gpu import find_gpu
from engines.plans.lookup import PlanBuildError

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision

_NICENESS = 10


def main(name: str, precision: str, max_batch: str) -> int:
    """Build the plan of the catalogue's model `name`. Returns the exit status."""
    threading.Thread(target=_leave_with_parent, name="posewire-parent", daemon=True).start()
    with suppress(OSError):  # some containers deny it
        os.nice(_NICENESS)  # those who serve meanwhile come first
    try:
        catalogue = load()
        model = catalogue[name]
        order = order_for(model, cast("Precision", precision), int(max_batch))
        evaluation_images = evidence_for(model, catalogue)
        flavour = find_flavour(find_gpu())
        plan = build_plan(
            order,
            plans_folder(model),
            flavour,
            evaluation_images=evaluation_images,
            run=plan_runner(order, flavour),
            progress=_say_progress,
        )
    except (PlanBuildError, NoTensorRTError, CatalogueError, FetchError, OSError) as error:
        _say(error=str(error))
        return 1
    _say(plan=str(plan.path))
    return 0


def _say_progress(share: float, phase: str) -> None:
    _say(share=round(share, 3), phase=phase)


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)  # TensorRT holds the main thread; what is left behind is cleared up by the next builder


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
