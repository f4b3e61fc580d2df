"""The client as a distribution of its own, which works where the server's packages are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.light_client import FOLDER
from tests.servers import ServerProcess

_PROGRAM = """
import asyncio, json, sys
from importlib.util import find_spec
from pathlib import Path
from posewire_client import AsyncClient, Client

url, picture = sys.argv[1], Path(sys.argv[2])

async def follow():
    async with AsyncClient(url) as client, client.stream() as stream:
        return len((await client.pose(picture)).people), [p.id for p in (await stream.ask(picture.read_bytes())).people]

with Client(url) as client:
    posed = len(client.pose(picture).people)
    streamed = [[person.id for person in result.people] for result in client.stream([picture.read_bytes()] * 2)]
others = [name for name in ("fastapi", "numpy", "orjson", "pydantic", "service") if find_spec(name)]
print(json.dumps([posed, streamed, asyncio.run(follow()), others]))
"""


def test_it_works_with_only_the_packages_that_it_declares(
    light_client: Path, server: ServerProcess, jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    command = [sys.executable, "-S", "-c", _PROGRAM, server.url, "photo.jpg"]
    environment = {"PYTHONPATH": str(light_client)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [2, [[1, 2], [1, 2]], [2, [1, 2]], []]


def test_it_has_the_modules_and_their_types_and_nothing_else(light_client: Path) -> None:
    installed = {path.name for path in (light_client / "posewire_client").iterdir()} - {"__pycache__"}
    assert installed == {path.name for path in FOLDER.glob("*.py")} | {"py.typed"}


def test_it_has_the_version_of_the_server_and_needs_only_a_part_of_its_packages() -> None:
    folders = (FOLDER, FOLDER.parents[1])
    client, server = (tomllib.loads((f / "pyproject.toml").read_text("utf-8"))["project"] for f in folders)
    for key in ("version", "license", "requires-python"):
        assert client[key] == server[key]
    assert set(client["dependencies"]) <= set(server["dependencies"])
