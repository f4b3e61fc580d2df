"""Reading graphs on several threads at once, as a server does when it opens several networks."""

from __future__ import annotations

import subprocess
import sys

CONCURRENT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
from openvino import opset13 as op

from engines.runtimes.openvino.graphs import describe

sys.setswitchinterval(1e-6)
ports = [op.parameter([2, 3], dtype).output(0) for dtype in (np.float32, np.uint8) * 2]
for port in ports:
    port.set_names({"input"})
barrier = Barrier(len(ports))


def first(port):
    barrier.wait()
    return describe(port).dtype.name


with ThreadPoolExecutor(len(ports)) as pool:
    print(*pool.map(first, ports))
"""


def test_the_first_graphs_of_a_process_can_be_described_on_several_threads() -> None:
    """OpenVINO's binding alone deadlocks here nearly every time, see `graphs`."""
    command = [sys.executable, "-c", CONCURRENT]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert done.stdout.split() == ["float32", "uint8"] * 2
