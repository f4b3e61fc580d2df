"""README: its commands work when pasted, and its lists of settings and problems are complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.api.problems import KINDS
from service.config import Settings
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
CURLS = [line.strip().strip("`") for line in README.splitlines() if re.match(r"\s+curl ", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    for name in ("photo.jpg", "a.jpg", "mosaic.jpg"):
        (folder / name).write_bytes(encoded(photo()))
    (folder / "b.png").write_bytes(encoded(photo(), "PNG"))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tiny", catalogue=tiny_catalogue(folder)) as running:
        yield running


@pytest.mark.parametrize("command", CURLS)
def test_every_curl_command_works_when_pasted(command: str, folder: Path, server: ServerProcess) -> None:
    pasted = command.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("curl ", "curl -sS --fail ", 1)
    done = subprocess.run(["bash", "-c", pasted], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    if written := re.search(r" -o (\S+)$", command):
        with Image.open(folder / written[1]) as picture:
            assert picture.size == (640, 480)
    else:
        assert json.loads(done.stdout)


def test_the_python_client_works_when_pasted(folder: Path, server: ServerProcess, light_client: Path) -> None:
    [program] = re.findall(r"```python\n(from pathlib import Path\nfrom posewire_client .*?)```", README, re.DOTALL)
    (folder / "frames").mkdir()
    for number in range(3):
        (folder / "frames" / f"{number}.jpg").write_bytes(encoded(photo()))
    program = program.replace("localhost:8000", f"127.0.0.1:{server.port}")
    command, environment = [sys.executable, "-S", "-c", program], {"PYTHONPATH": str(light_client)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["0", "1", "2"]


def test_there_are_curl_lines() -> None:
    assert len(CURLS) >= 4


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    field = Settings.model_fields[name]
    default = f"{field.default:g}" if isinstance(field.default, (int, float)) else ""
    rows = [line for line in README.splitlines() if line.startswith(f"| `{name}` | {default}")]
    assert any(str(field.description) in row for row in rows)


def test_every_problem_type_is_named() -> None:
    assert all(f"`{kind}`" in README for kind in KINDS if kind not in ("internal", "method-not-allowed"))
