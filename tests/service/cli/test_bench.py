"""`posewire bench URL` against real servers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from service.api.security import digest
from service.cli.main import main
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose networks take 30 ms a batch, for those with the key `right`."""
    catalogue = tiny_catalogue(tmp_path_factory.mktemp("bench"))
    settings = {"service_ms": 30, "service_batch": 1, "api_keys": digest("right")}
    with ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment=settings, module="tests.slow_server"
    ) as running:
        yield running


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_load_gives_a_table_advice_a_plot_and_all_figures(server: ServerProcess, tmp_path: Path) -> None:
    plot, document = tmp_path / "bench.png", tmp_path / "bench.json"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(encoded(photo(320, 240)))
    (tmp_path / "images" / "b.png").write_bytes(encoded(photo(320, 240), "PNG"))
    (tmp_path / "images" / "notes.txt").write_text("not an image", "utf-8")
    options = ("--seconds", "1.5", "--concurrency", "4", "--streams", "1", "--fps", "5", "--api-key", "right")
    files = ("--plot", str(plot), "--json", str(document), "--image", str(tmp_path / "images"))
    done = bench(server.url, *options, *files)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[-4:] == ["infer", "decode", "track", "serialise"]
    assert lines[1].startswith("1 at once")
    figures = json.loads(document.read_text("utf-8"))
    kinds = [step["kind"] for step in figures["steps"]]
    assert kinds == sorted(kinds, key=["closed", "open", "streams"].index)
    assert kinds.count("open") == 3
    first = figures["steps"][0]
    assert first["parts"]["infer"] >= 30  # the network's time, in the server's words
    assert first["p50"] >= 30
    assert first["networks"]["tiny"]["batch"] == 1
    # A network of 30 ms cannot give more than 33 results a second, and is the limit.
    assert max(step["rate"] for step in figures["steps"]) <= 34
    assert any("The server finds" in line for line in figures["advice"])
    assert all(line in done.stdout for line in figures["advice"])
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--api-key", "wrong"), 1, "401 unauthorized"),
        (("--api-key", "right", "--model", "nobody"), 1, "404 unknown-model"),
        (("--api-key", "right", "--image", "EMPTY"), 2, "--image: none of 0 files is a .jpg, .png or .webp"),
        (("--api-key", "right", "--image", "BROKEN"), 1, "answers image 1 with 415 not-an-image"),
    ],
)
def test_refusals_are_one_line(
    server: ServerProcess, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    names = {"EMPTY": str(tmp_path / "empty"), "BROKEN": str(tmp_path / "broken.jpg")}
    done = bench(server.url, *(names.get(argument, argument) for argument in arguments))
    assert (done.exit_code, says in done.stderr) == (code, True), done.stderr


def test_a_server_that_is_not_there_is_one_line() -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        done = bench(f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert done.exit_code == 1
    assert "Connect call failed" in done.stderr


@pytest.mark.parametrize("target", ["http://", "http://localhost:99999", "http://localhost/?a=1", "nowhere.jpg"])
def test_other_targets_are_refused(target: str) -> None:
    done = bench(target)
    assert done.exit_code in (1, 2)
    assert "like http://localhost:8000" in done.stderr or "such as http://localhost:8000" in done.stderr
