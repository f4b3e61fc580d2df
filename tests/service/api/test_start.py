"""A server that cannot start says why, ends with a status that is not 0, and leaves no process behind."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.failing_server import STEPS
from tests.graphs import tiny_catalogue
from tests.servers import ServerProcess

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def begun(server: ServerProcess) -> list[int]:
    """All processes of the server that its log names."""
    return [int(pid) for line in server.log for pid in re.findall(r"(?:tracker |server process \[)(\d+)", line)]


@linux
@pytest.mark.parametrize("step", STEPS)
def test_what_had_begun_is_ended_whatever_fails(step: str, catalogue: Path) -> None:
    failing = ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment={"test_step": step}, module="tests.failing_server"
    )
    with pytest.raises(RuntimeError, match="the server ended at its start"), failing:
        pass
    assert failing.process.returncode not in (0, None)
    assert any("the server cannot start: no such luck" in line for line in failing.log)
    assert len(begun(failing)) == 2
    assert not [pid for pid in begun(failing) if runs(pid)]


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_opened_ends_the_server(workers: int, tmp_path: Path) -> None:
    catalogue = tiny_catalogue(tmp_path)
    shutil.copy(catalogue, tmp_path / "tiny.xml")  # it is no graph
    failing = ServerProcess("--model", "tiny", "--workers", str(workers), catalogue=catalogue)
    with pytest.raises(RuntimeError, match="the server ended at its start"), failing:
        pass
    assert failing.process.returncode not in (0, None)
    assert any("the server cannot start: " in line for line in failing.log)
    assert begun(failing)
    assert not [pid for pid in begun(failing) if runs(pid)]
