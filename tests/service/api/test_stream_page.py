"""The description of the protocol is complete, and its examples run unchanged."""

from __future__ import annotations

import asyncio
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from service.api.hello import HelloMessage
from service.streams.options import LineMessage, ZoneMessage
from service.streams.protocol import CloseCode
from tests.browser import browse, needs_chromium
from tests.pictures import photo
from tests.servers import ServerProcess

PAGE = (Path(__file__).parents[3] / "service/api/stream.md").read_text("utf-8")


def example(language: str) -> str:
    """Return the only code block in a language."""
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.mark.parametrize(("language", "most"), [("python", 25), ("html", 13)])
def test_examples_are_short(language: str, most: int) -> None:
    assert len([line for line in example(language).splitlines() if line.strip()]) <= most


@pytest.mark.parametrize("name", HelloMessage.model_fields)
def test_every_member_of_the_hello_is_documented_with_its_default(name: str) -> None:
    default = HelloMessage.model_fields[name].default
    row = next(line for line in PAGE.splitlines() if re.match(rf"\| (`\w+`, )*`{name}`", line))
    if isinstance(default, bool):
        assert f"| {str(default).lower()} |" in row
    elif isinstance(default, int | float):
        assert f"| {default} |" in row


def test_every_member_of_zones_and_lines_is_documented() -> None:
    assert all(f'"{name}"' in PAGE for model in (ZoneMessage, LineMessage) for name in model.model_fields)


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_is_documented(code: CloseCode) -> None:
    assert f"\n| {code.value} | " in PAGE


def test_the_server_serves_the_page(live: ServerProcess) -> None:
    answer = httpx.get(f"{live.url}/docs/stream")
    assert answer.text == PAGE
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_python_example_runs(live: ServerProcess, tmp_path: Path) -> None:
    video = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    for seed in range(10):
        writer.write(np.asarray(photo(320, 240, seed)))
    writer.release()
    script = tmp_path / "client.py"
    script.write_text(example("python"), "utf-8")
    command = [sys.executable, str(script), f"ws://127.0.0.1:{live.port}/stream", str(video)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "model: pair"
    assert lines[1].startswith("frame 0: person 1 at [")
    assert len(lines) >= 2 * 2  # the first frame and the last; a busy machine may drop those between


@contextmanager
def website(page: str) -> Iterator[str]:
    """Serve a page on localhost, where browsers allow access to cameras. Yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def cross_origin(catalogue: Path) -> Iterator[ServerProcess]:
    """A server that allows pages of other origins to open streams."""
    environment = {"service_ms": 20, "cors_origins": "*"}
    models = ("--model", "pair,tiny")
    with ServerProcess(*models, catalogue=catalogue, environment=environment, module="tests.slow_server") as running:
        yield running


@needs_chromium
def test_the_browser_example_runs(cross_origin: ServerProcess) -> None:
    page = example("html").replace("localhost:8000", f"127.0.0.1:{cross_origin.port}")
    drawn = """(() => {
        const canvas = document.querySelector("canvas");
        if (!canvas) return 0;
        if (!canvas.width) return 0;
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
    })()"""

    async def scenario(url: str) -> None:
        async with browse(url) as opened:
            await opened.wait(f"{drawn} >= 5")  # the camera's test card, and numbers on it
            assert opened.complaints == []

    with website(page) as url:
        asyncio.run(scenario(url))
    assert frames_served(cross_origin) > 0


def frames_served(server: ServerProcess) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    found = re.search(r'^posewire_stream_frames_total\{outcome="served"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0
