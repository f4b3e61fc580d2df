"""`posewire serve` as on a machine with a GPU: python -m tests.plan_server serve ...

The driver is said to have found a GPU, and a plan is run by OpenVINO from the graph that it was built of, in batches of
two. Building, waiting, the manifest and the switch are the real ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engines.plans.gpu import Gpu
from engines.runtimes import Runtime, multi_device, open_runtime
from service.cli.main import main
from service.inference import backend_choice


def _open(path: Path, backend: str, *, device: str, **options: Any) -> Runtime:
    assert device == ("cuda:0" if backend == "tensorrt" else "cpu")
    if backend != "tensorrt":
        return open_runtime(path, "openvino", **options)
    assert path.suffix == ".plan"
    return open_runtime(Path(os.environ["POSEWIRE_TEST_GRAPH"]), precision="fp32", max_batch=2, **options)


if __name__ == "__main__":
    gpu = patch.object(backend_choice, "find_gpu", lambda: Gpu("A GPU", (8, 9)))
    visible = patch.object(backend_choice, "visible_devices", lambda name: ("cuda:0" if name == "tensorrt" else "cpu",))
    with gpu, visible, patch.object(multi_device, "open_runtime", _open):
        main()
