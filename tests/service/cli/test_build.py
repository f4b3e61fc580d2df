"""`posewire build` where torch is not installed, and that all else does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.main import main


def test_building_without_torch_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    (tmp_path / "file.pth").touch()
    done = CliRunner().invoke(main, ["build", "hrnet-w32", "--checkpoint", str(tmp_path / "file.pth")])
    assert (done.exit_code, done.stderr) == (1, "Error: building needs torch: pip install 'posewire[torch]'\n")


def test_the_server_and_its_runtimes_do_not_import_torch() -> None:
    program = (
        "import sys, service.cli.main, service.server, service.api.app, engines.families;"
        "import engines.runtimes.openvino.runtime;"
        "assert not {'torch', 'onnx', 'safetensors'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
