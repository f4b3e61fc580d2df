"""Running commands that must not import slow packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
from service.cli.main import main
main(sys.argv[1:], standalone_mode=False)
imported = {"onnx", "onnxscript", "openvino", "tensorrt", "tensorrt_rtx", "torch"} & set(sys.modules)
sys.exit(f"it imports {', '.join(imported)}" if imported else 0)
"""


def run_frugally(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the posewire command in `folder`. It also fails if it imports one of these packages."""
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, encoding="utf-8", check=False
    )
