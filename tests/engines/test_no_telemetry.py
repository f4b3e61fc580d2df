"""No library sends usage statistics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WATCHED = """
import importlib.util, json, sys

connections = []
sys.addaudithook(lambda event, arguments: event == "socket.connect" and connections.append(str(arguments[1])))

import service.cli.main, service.inference.model_registry, engines.runtimes.openvino.runtime
if importlib.util.find_spec("onnx") is not None:  # from an extra
    import engines.build.precision.int8_graph
import multiprocessing
print(json.dumps([connections, [child.name for child in multiprocessing.active_children()]]))
"""


def test_importing_the_server_opens_no_connections_and_writes_no_files(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    variables |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WATCHED]
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert json.loads(done.stdout) == [[], []]
    assert list(tmp_path.iterdir()) == []
