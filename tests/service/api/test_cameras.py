"""The cameras of a server: its file, its API for admins, pauses, restarts and secrets; real servers, real cameras."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.security import digest
from tests.camera_servers import HttpCamera
from tests.servers import ServerProcess
from tests.waiting import wait_for

KEYS = f"admin:{digest('admin')},{digest('user')}"
PASSWORD = "hush-7261"  # noqa: S105 - a test's


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    with HttpCamera(password=PASSWORD) as running:
        yield running


def source(camera: HttpCamera) -> str:
    return camera.url.replace("http://", f"http://joe:{PASSWORD}@") + "?token=hush-7261"


class Api:
    """A client of a server's cameras, with the key of an admin unless another is given."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def ask(self, method: str, path: str, *, key: str = "admin", **options: Any) -> httpx.Response:
        headers = {"X-API-Key": key} if key else {}
        return httpx.request(method, f"{self.server.url}{path}", headers=headers, timeout=60, **options)

    def put(self, name: str, document: object, **options: Any) -> httpx.Response:
        return self.ask("PUT", f"/cameras/{name}", json=document, **options)

    def get(self, name: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/cameras/{name}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def wait(self, name: str, state: str) -> dict[str, Any]:
        """Wait until a camera is in a state."""
        wait_for(lambda: self.get(name)["state"] == state)
        return self.get(name)

    def wait_served(self, name: str) -> dict[str, Any]:
        """Wait until a camera is live and has results."""
        wait_for(
            lambda: (now := self.get(name))["state"] == "live" and now["fps_done"] > 0 and now["people"] is not None
        )
        return self.get(name)

    def metrics(self) -> str:
        return self.ask("GET", "/metrics").text


def serve(catalogue: Path, tmp_path: Path, **environment: object) -> ServerProcess:
    settings = {"api_keys": KEYS, "data": tmp_path / "data", **environment}
    return ServerProcess("--model", "tiny", catalogue=catalogue, environment=settings)


def write(file: Path, cameras: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a file of cameras."""
    lines: list[str] = []
    for name, members in cameras.items():
        lines += [f"[cameras.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in members.items()), ""]
    file.write_text("\n".join(lines), "utf-8")
    return file


def reload(server: ServerProcess, text: str) -> None:
    """Send SIGHUP, and wait until the log says this."""
    before = len(server.log)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any(text in line for line in server.log[before:]))


def readers(server: ServerProcess) -> list[int]:
    """The processes that read sources for a server."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(server.process.pid)]
    lines = subprocess.run(command, capture_output=True, check=False, encoding="utf-8").stdout.splitlines()
    return [int(line.split()[0]) for line in lines if "service.cameras.sources.reader" in line]


def test_a_camera_of_the_file_is_served_and_its_secrets_are_never_shown(
    catalogue: Path, tmp_path: Path, camera: HttpCamera
) -> None:
    file = write(tmp_path / "cameras.toml", {"door": {"source": source(camera), "min_score": 0.5}})
    with serve(catalogue, tmp_path, cameras=file, log_level="debug") as server:
        api = Api(server)
        document = api.wait_served("door")
        assert document["source"] == f"http://127.0.0.1:{camera.port}/video.mjpg?..."
        assert (document["width"], document["height"], document["codec"]) == (160, 120, "mjpeg")
        assert (document["origin"], document["reason"], document["options"]) == ("file", "", {"min_score": 0.5})
        assert document["decoded"] > 0
        assert document["fps_in"] > 0
        assert document["age_ms"] > 0
        assert api.ask("GET", "/cameras", key="user").json()["cameras"][0]["name"] == "door"
        assert api.ask("GET", "/cameras", key="").status_code == 401
        assert api.ask("GET", "/cameras/window").status_code == 404

        camera.mode = "die"
        lost = api.wait("door", "lost")
        assert lost["reason"]
        assert lost["people"] is None
        wait_for(lambda: 'posewire_camera_up{camera="door"} 0.0' in api.metrics())
        camera.mode = "play"
        api.wait_served("door")
        wait_for(lambda: 'posewire_camera_up{camera="door"} 1.0' in api.metrics())
        assert 'posewire_camera_lost_total{camera="door"}' in api.metrics()
        assert 'posewire_camera_frames_total{camera="door",outcome="decoded"}' in api.metrics()
        said = [api.metrics(), json.dumps(api.get("door")), *server.log, api.ask("GET", "/openapi.json").text]
        assert not any(PASSWORD in text for text in said)


def test_the_api_adds_changes_pauses_and_removes_cameras(catalogue: Path, tmp_path: Path, camera: HttpCamera) -> None:
    with serve(catalogue, tmp_path, camera_hosts="127.0.0.1") as server:
        api = Api(server)
        assert api.put("door", {"source": source(camera)}).status_code == 201
        api.wait_served("door")
        changed = api.put("door", {"source": source(camera), "fps": 2, "detect_every": "auto", "smoothing": True})
        assert changed.status_code == 200
        assert changed.json()["options"] == {"fps": 2.0, "smoothing": {"min_cutoff": 1.0, "beta": 10.0}}
        api.wait_served("door")

        paused = api.ask("POST", "/cameras/door/pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        assert readers(server) == []
        wait_for(lambda: 'posewire_camera_up{camera="door"}' not in api.metrics())
        assert api.ask("POST", "/cameras/door/pause").json()["state"] == "paused"
        assert api.put("door", {"source": source(camera)}).json()["state"] == "paused"
        assert api.ask("POST", "/cameras/door/resume").json()["state"] == "connecting"
        api.wait_served("door")

        assert api.ask("DELETE", "/cameras/door").status_code == 204
        assert readers(server) == []
        assert api.ask("DELETE", "/cameras/door").status_code == 404
        assert api.ask("POST", "/cameras/door/resume").status_code == 404
        wait_for(lambda: 'camera="door"' not in api.metrics())
        assert not any(PASSWORD in line for line in server.log)


@pytest.mark.parametrize(
    ("key", "status", "text"), [("user", 403, "is no admin's"), ("", 401, ""), ("wrong", 401, "not one that")]
)
def test_only_admins_change_cameras(catalogue: Path, guarded: Api, key: str, status: int, text: str) -> None:
    for method, path in (("PUT", "x"), ("DELETE", "x"), ("POST", "x/pause"), ("POST", "x/resume")):
        answer = guarded.ask(method, f"/cameras/{path}", key=key, json={"source": "rtsp://127.0.0.1/x"})
        assert answer.status_code == status
        assert text in answer.json()["detail"]


@pytest.fixture(scope="module")
def guarded(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("guarded")
    with HttpCamera() as camera:
        file = write(folder / "cameras.toml", {"fixed": {"source": camera.url}})
        with serve(catalogue, folder, cameras=file, camera_hosts="10.1.2.3,cam.example", max_cameras=2) as server:
            yield Api(server)


@pytest.mark.parametrize(
    ("name", "document", "status", "text"),
    [
        ("x", {"source": "rtsp://10.9.9.9/live"}, 422, "camera_hosts"),
        ("x", {"source": "/etc/passwd"}, 422, "files and devices"),
        ("x", {"source": "0"}, 422, "files and devices"),
        ("x", {"source": "file:///etc/passwd"}, 422, "cannot begin with"),
        ("x", {"source": "rtsp://"}, 422, "no valid URL"),
        ("x", {}, 422, "source: Field required"),
        ("x", [], 422, "is a JSON object"),
        ("x", {"source": "rtsp://10.1.2.3/", "colour": "red"}, 422, "colour: there is no such name here"),
        ("x", {"source": "rtsp://10.1.2.3/", "fps": 0}, 422, "fps: "),
        ("x", {"source": "rtsp://10.1.2.3/", "loop": True}, 422, "loop is for files"),
        ("x", {"source": "rtsp://10.1.2.3/", "zones": [{"name": "a", "polygon": [[0, 0]]}]}, 422, "zones.0.polygon"),
        ("X", {"source": "rtsp://10.1.2.3/"}, 422, "name: 'X'"),
        ("a" * 65, {"source": "rtsp://10.1.2.3/"}, 422, "name: "),
        ("fixed", {"source": "rtsp://10.1.2.3/"}, 409, "edit that"),
    ],
)
def test_what_is_wrong_with_a_camera_is_said(guarded: Api, name: str, document: object, status: int, text: str) -> None:
    answer = guarded.put(name, document)
    assert answer.status_code == status, answer.text
    assert text in answer.json()["detail"]
    assert [one["name"] for one in guarded.ask("GET", "/cameras").json()["cameras"]] == ["fixed"]


def test_bodies_that_are_no_camera_are_refused(guarded: Api) -> None:
    assert guarded.ask("PUT", "/cameras/x", content=b"{").status_code == 400
    assert guarded.ask("PUT", "/cameras/x", content=b" " * 200_000).status_code == 413
    assert guarded.ask("DELETE", "/cameras/fixed").status_code == 409


def test_there_are_only_so_many_cameras(guarded: Api) -> None:
    assert guarded.put("one", {"source": "rtsp://10.1.2.3/x"}).status_code == 201
    try:
        answer = guarded.put("two", {"source": "rtsp://10.1.2.3/x"})
        assert answer.status_code == 409
        assert "max_cameras" in answer.json()["detail"]
    finally:
        assert guarded.ask("DELETE", "/cameras/one").status_code == 204  # while it connects


def test_an_open_server_lets_nobody_name_sources(client: httpx.Client) -> None:
    assert client.get("/cameras").json() == {"cameras": [], "admin": False}
    for method, path in (("PUT", "x"), ("DELETE", "x"), ("POST", "x/pause"), ("POST", "x/resume")):
        answer = client.request(method, f"/cameras/{path}", json={"source": "rtsp://127.0.0.1/x"})
        assert answer.status_code == 403
        assert "posewire key --admin" in answer.json()["detail"]


def test_cameras_of_the_api_and_pauses_survive_a_restart(catalogue: Path, tmp_path: Path, camera: HttpCamera) -> None:
    file = write(tmp_path / "cameras.toml", {"hall": {"source": source(camera)}})
    with serve(catalogue, tmp_path, cameras=file, camera_hosts="127.0.0.1") as server:
        api = Api(server)
        assert api.put("door", {"source": source(camera), "min_score": 0.4}).status_code == 201
        assert api.ask("POST", "/cameras/hall/pause").json()["state"] == "paused"
        api.wait_served("door")
        kept = tmp_path / "data" / "cameras" / "cameras.json"
        assert kept.stat().st_mode & 0o077 == 0
    with serve(catalogue, tmp_path, cameras=file, camera_hosts="127.0.0.1") as server:
        api = Api(server)
        document = api.wait_served("door")
        assert (document["origin"], document["options"]) == ("api", {"min_score": 0.4})
        assert api.get("hall")["state"] == "paused"
        assert not any("new identities" in line for line in server.log)


def test_sighup_starts_stops_and_changes_cameras(catalogue: Path, tmp_path: Path, camera: HttpCamera) -> None:
    file = write(tmp_path / "cameras.toml", {"a": {"source": source(camera)}, "b": {"source": source(camera)}})
    with serve(catalogue, tmp_path, cameras=file) as server:
        api = Api(server)
        api.wait_served("a")
        before = api.get("a")["since"]
        write(file, {"a": {"source": source(camera)}, "c": {"source": source(camera), "fps": 5}})
        reload(server, "1 new, 0 changed, 1 removed")
        api.wait_served("c")
        assert api.ask("GET", "/cameras/b").status_code == 404
        assert api.get("a")["since"] == before, "it was left alone"
        write(file, {"a": {"source": source(camera), "fps": 1}})
        reload(server, "0 new, 1 changed, 1 removed")
        assert api.wait_served("a")["options"] == {"fps": 1.0}

        for text, complaint in (
            ("[cameras.a]\nsource = 5\n", "cameras.a.source: Input should be a valid string"),
            (f"[cameras.a]\nsource = 'joe:{PASSWORD}@10.0.0.1'\n", "cameras.a.source: it is no file, device or URL"),
            ("[cameras.a\n", "is no TOML"),
            ("[cameras.A]\nsource = 'rtsp://x/'\n", "cameras.A: a name has a-z"),
            ("[camera.a]\nsource = 'rtsp://x/'\n", "camera: there is no such name here"),
        ):
            file.write_text(text, "utf-8")
            reload(server, "the cameras and sinks stay as they were")
            assert complaint in server.log[-1]
            assert str(file) in server.log[-1]
        file.unlink()
        reload(server, "cannot be read: No such file")
        assert api.wait_served("a")["options"] == {"fps": 1.0}
        assert not any(PASSWORD in line for line in server.log)


def test_an_invalid_file_ends_the_start_with_one_clear_line(catalogue: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "cameras.toml", {"door": {"source": "rtsp://joe:hush-7261@10.0.0.1/x", "fps": -1}})
    server = serve(catalogue, tmp_path, cameras=file)
    done = subprocess.run(server._command, env=server._variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"setting cameras: {file}: cameras.door.fps: Input should be greater than 0" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_camera_that_cannot_be_served_says_why(catalogue: Path, tmp_path: Path) -> None:
    clip = tmp_path / "broken.mp4"
    clip.write_bytes(os.urandom(5000))
    file = write(
        tmp_path / "cameras.toml",
        {
            "model": {"source": "rtsp://127.0.0.1:9/x", "model": "unheard-of"},
            "file": {"source": str(clip)},
            "refused": {"source": "http://127.0.0.1:9/x"},
        },
    )
    with serve(catalogue, tmp_path, cameras=file) as server:
        api = Api(server)
        assert "'unheard-of' is not served here" in api.wait("model", "ended")["reason"]
        assert api.wait("file", "ended")["reason"]
        assert api.wait("refused", "lost")["reason"]
        for name in ("model", "file", "refused"):
            assert api.ask("POST", f"/cameras/{name}/pause").json()["state"] == "paused"
        assert readers(server) == []
