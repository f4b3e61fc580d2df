"""Builds one plan in a separate process, while a server keeps serving.

    python -m engines.build MODEL PRECISION MAX_BATCH

Reports on stdout, one JSON object per line: {"share", "phase"} during the build, finally {"plan"} or {"error"}.
Exits when stdin is closed, because its parent process has then ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from engines.build.accuracy_gate.evaluation_images import evaluation_images_for
from engines.build.compile import build_plan
from engines.build.model_plans import order_for, plan_runner, plans_folder
from engines.catalogue import CatalogueError, FetchError, load
from engines.plans.find import PlanBuildError
from engines.plans.flavour import NoTensorRTError, find_flavour
from engines.plans.gpu import find_gpu

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision

_NICENESS = 10


def main(name: str, precision: str, max_batch: str) -> int:
    """Build the plan of the catalogue's model `name`. Returns the exit status."""
    threading.Thread(target=_leave_with_parent, name="posewire-parent", daemon=True).start()
    with suppress(OSError):  # some containers deny it
        os.nice(_NICENESS)  # the server comes first
    try:
        catalogue = load()
        model = catalogue[name]
        order = order_for(model, cast("Precision", precision), int(max_batch))
        evaluation_images = evaluation_images_for(model, catalogue)
        flavour = find_flavour(find_gpu())
        plan = build_plan(
            order,
            plans_folder(model),
            flavour,
            evaluation_images=evaluation_images,
            run=plan_runner(order, flavour),
            progress=lambda share, phase: _say(share=round(share, 3), phase=phase),
        )
    except (PlanBuildError, NoTensorRTError, CatalogueError, FetchError, OSError) as error:
        _say(error=str(error))
        return 1
    _say(plan=str(plan.path))
    return 0


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)  # TensorRT blocks the main thread; the next builder removes the files left behind


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
