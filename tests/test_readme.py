"""README: its commands work when pasted, and its lists of settings and problems are complete."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from service.api.problems import KINDS
from service.api.security import digest
from service.config import Settings
from tests.browser import browse, needs_chromium
from tests.deployment.marked import SIZE, marked_catalogue, picture
from tests.graphs import tiny_catalogue
from tests.people import standing
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.service.media.videos import make_video

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
LINES = [line.strip().strip("`") for line in README.splitlines() if re.match(r"\s+curl ", line)]
CURLS = [line for line in LINES if "/videos" not in line and "/cameras/" not in line]
CAMERA = [line for line in LINES if "/cameras/" in line and " -X " in line]
VIDEO_JOB = [line for line in LINES if "/videos" in line]


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


def test_the_commands_of_a_camera_work_in_their_order(folder: Path) -> None:
    key, hosts = secrets.token_urlsafe(32), "10.0.0.0/24"
    assert f"POSEWIRE_API_KEYS=admin:DIGEST POSEWIRE_CAMERA_HOSTS={hosts} posewire serve" in README
    environment = {"api_keys": f"admin:{digest(key)}", "camera_hosts": hosts}
    assert [re.findall("-X (PUT|POST|DELETE)", line) for line in CAMERA] == [["PUT"], ["POST"], ["DELETE"]]
    with ServerProcess("--model", "tiny", catalogue=tiny_catalogue(folder), environment=environment) as server:
        for line in CAMERA:
            pasted = line.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("KEY", key)
            pasted = pasted.replace("curl ", "curl -sS --fail ", 1)
            done = subprocess.run(["bash", "-c", pasted], capture_output=True, check=False)
            assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("command", CURLS)
def test_every_curl_command_works_when_pasted(command: str, folder: Path, server: ServerProcess) -> None:
    pasted = command.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("curl ", "curl -sS --fail ", 1)
    done = subprocess.run(["bash", "-c", pasted], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    if written := re.search(r" -o (\S+)", command):
        with Image.open(folder / written[1]) as picture:
            assert picture.size == (640, 480)
    else:
        assert json.loads(done.stdout)


def test_the_curl_commands_of_a_video_job_work_when_pasted(folder: Path, server: ServerProcess) -> None:
    make_video(folder / "clip.mp4", 5)
    job, said = "", []
    for command in VIDEO_JOB:
        pasted = command.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("/ID", f"/{job}")
        pasted = pasted.replace("curl ", "curl -sS --fail ", 1)
        done = subprocess.run(["bash", "-c", pasted], cwd=folder, capture_output=True, check=False, encoding="utf-8")
        assert done.returncode == 0, (command, done.stderr)
        said.append(done.stdout)
        job = job or json.loads(done.stdout)["id"]
    assert len(json.loads(said[2])["videos"]) == 2
    assert '"state":"done"' in said[3].splitlines()[-2]
    assert [json.loads(line)["frame"] for line in said[4].splitlines()] == list(range(5))
    assert said[5].startswith("frame,time,person")
    assert (folder / "drawn.mp4").read_bytes()[4:8] == b"ftyp"
    assert httpx.get(f"{server.url}/videos/{job}").status_code == 404


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


def example(name: str) -> str:
    """Return the only code block that names its file so."""
    [code] = [
        code
        for code in re.findall(r"^```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        if name in code.splitlines()[0]
    ]
    return str(code)


def run_example(name: str, folder: Path, server: ServerProcess, site: Path, *arguments: str) -> list[str]:
    """Run a Python example, with the installed client but otherwise as it stands. Returns its lines."""
    (folder / name).write_text(example(name).replace("localhost:8000", f"127.0.0.1:{server.port}"), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, name, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_of_photos_runs(folder: Path, server: ServerProcess, light_client: Path) -> None:
    lines = run_example("hands.py", folder, server, light_client, "a.jpg", "photo.jpg")
    assert lines[0].startswith("a.jpg: somebody at (")
    assert all(line.endswith(("raises a hand", "has the hands down")) for line in lines)


def test_the_example_of_a_live_stream_runs(folder: Path, server: ServerProcess, light_client: Path) -> None:
    make_video(folder / "clip.mp4", 20)
    lines = run_example("live.py", folder, server, light_client, "clip.mp4")
    assert re.match(r"frame \d+, \d+ ms old: person \d+ at \(", lines[0])


def test_the_example_of_counting_runs(tmp_path: Path) -> None:
    """Somebody, whom the picture encodes and a network decodes, stands left of the line and then right of it."""
    places = np.concatenate([np.full(25, 120.0), np.linspace(120, 136, 25), np.full(25, 136.0)])
    with av.open(str(tmp_path / "walk.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "bgr0"  # without loss
        for x in places:
            pixels = np.asarray(Image.open(io.BytesIO(picture([(standing(x, 128, 150), 0.9)]))))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))
    (tmp_path / "count.py").write_text(example("count.py"), "utf-8")
    [zones] = [line for line in README.splitlines() if line.startswith('{"lines": [{"name": "door", "start": [0.5, 1]')]
    (tmp_path / "zones.json").write_text(zones, "utf-8")
    [command] = [line.strip() for line in README.splitlines() if line.endswith("| python3 count.py")]
    here = f"{sys.executable} -m service camera walk.mkv --model marked"
    command = re.sub(r"posewire camera rtsp://\S+", here, command).replace("python3", sys.executable)
    environment = {**os.environ, "POSEWIRE_CATALOGUE": str(marked_catalogue(tmp_path)), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.stdout.decode() == "person 1: 0 to the left, 1 to the right\n", done.stderr.decode()


@needs_chromium
def test_the_example_in_the_browser_runs(folder: Path) -> None:
    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

    async def choose(url: str) -> None:
        async with browse(url + "photo.html") as page:
            done = await page.evaluate("""(async () => {
                const photo = new File([await (await fetch("a.jpg")).blob()], "a.jpg", {type: "image/jpeg"});
                await document.querySelector("input").onchange({target: {files: [photo]}});
                const canvas = document.querySelector("canvas");
                const plain = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
                plain.drawImage(await createImageBitmap(photo), 0, 0);
                const [before, after] = [plain, canvas.getContext("2d")].map(
                    pen => pen.getImageData(0, 0, canvas.width, canvas.height).data);
                return [canvas.width, canvas.height, before.filter((value, n) => value != after[n]).length];
            })()""")
            assert done[:2] == [640, 480]
            assert done[2] > 1000  # limbs are drawn on the photo
            assert [said for said in page.complaints if "favicon" not in said] == []  # this website has none

    settings = {"cors_origins": "*"}
    catalogue = tiny_catalogue(folder)
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=settings) as server:
        page = example("photo.html").replace("localhost:8000", f"127.0.0.1:{server.port}")
        (folder / "photo.html").write_text(page, "utf-8")
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as website:
            threading.Thread(target=website.serve_forever, daemon=True).start()
            asyncio.run(choose(f"http://127.0.0.1:{website.server_address[1]}/"))
            website.shutdown()


def headings(levels: str) -> list[str]:
    """The headings of some levels, such as "##?" for the first two."""
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"^{levels} (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """The name of a heading in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_chapter_and_section_is_in_the_contents() -> None:
    contents = " ".join(README.partition("## Contents\n")[2].partition("\n| task")[0].split())
    titles = [title for title in headings("##?") if title not in ("Posewire", "Contents")]
    assert re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", contents) == [(title, anchor(title)) for title in titles]


def test_links_within_the_page_lead_somewhere() -> None:
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= {anchor(title) for title in headings("#+")}


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
