"""The pictures of a camera, by a real server with a real camera on the loopback: single ones, and live."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.api.security import digest
from tests.camera_servers import HttpCamera, camera_file
from tests.servers import ServerProcess
from tests.service.api.raw import RawConnection
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

KEY = "a-long-random-key"
PICTURE, LIVE = "/cameras/door/picture.jpg", "/cameras/door/live.mjpg"
Part = tuple[float, bytes]


@pytest.fixture(scope="module")
def client(cameras: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cameras.url, timeout=60) as opened:
        wait_for(lambda: all(opened.get(f"/cameras/{name}/picture.jpg").is_success for name in ("door", "masked")))
        yield opened


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(BytesIO(data))).astype(float)


def parts(response: httpx.Response) -> Iterator[Part]:
    """The timestamps and pictures of live pictures."""
    assert response.status_code == 200, response.read()
    assert response.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
    data = b""
    for piece in response.iter_raw():
        data += piece
        while (head := re.search(rb"--frame\r\n(.+?)\r\n\r\n", data, re.DOTALL)) is not None:
            names = dict(line.split(": ", 1) for line in head[1].decode().split("\r\n"))
            end = head.end() + int(names["Content-Length"])
            if len(data) < end + 2:
                break
            yield float(names["X-Posewire-Timestamp"]), data[head.end() : end]
            data = data[end + 2 :]


def live(client: httpx.Client, count: int, path: str = LIVE) -> list[Part]:
    with client.stream("GET", path) as response:
        return list(islice(parts(response), count))


def test_a_picture_is_plain_or_drawn_and_as_wide_as_wanted(client: httpx.Client) -> None:
    plain, drawn = (client.get(PICTURE, params={"draw": draw}) for draw in (0, 1))
    for answer in (plain, drawn):
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"
        assert parsedate_to_datetime(answer.headers["last-modified"])
        assert float(answer.headers["x-posewire-timestamp"]) > 1.7e12
        assert pixels(answer.content).shape == (120, 160, 3)
    colours = pixels(plain.content)
    assert np.abs(colours[8:50, 8:70] - (220, 30, 30)).max() < 30  # as the camera shows it, see `picture`
    assert np.ptp(colours[64:]) < 30  # one shade of grey
    assert np.ptp(pixels(drawn.content)[64:]) > 60
    small, rough = (client.get(PICTURE, params=params) for params in ({"width": 320}, {"quality": 7}))
    assert pixels(small.content).shape == (120, 160, 3)  # never enlarged
    assert len(rough.content) < len(drawn.content)


def test_a_picture_that_the_client_has_is_not_sent_again(
    client: httpx.Client, cameras: ServerProcess, filmed: HttpCamera
) -> None:
    def ask(tag: str = "", **params: int) -> httpx.Response:
        return client.get(PICTURE, params=params, headers={"if-none-match": tag} if tag else {})

    def is_same() -> bool:
        """Ask in all ways for the picture that was the newest. False if there is a newer one meanwhile."""
        newest = ask()
        tag = newest.headers["etag"]
        known = [ask(header) for header in (tag, f'"another", W/{tag}')]
        others = [ask('"another"'), ask(tag, draw=0)]
        head = client.head(PICTURE)
        if ask().headers["etag"] != tag:
            return False
        assert [(answer.status_code, answer.content, answer.headers["etag"]) for answer in known] == [
            (304, b"", tag)
        ] * 2
        assert [answer.status_code for answer in others] == [200, 200]
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
        assert int(head.headers["content-length"]) == len(newest.content)
        return True

    filmed.mode = "silent"
    try:
        wait_for(is_same)
        tag = ask().headers["etag"]
    finally:
        filmed.mode = "play"
    wait_for(lambda: ask(tag).status_code == 200)


def test_without_a_picture_the_client_is_told_why_and_when_to_ask_again(client: httpx.Client) -> None:
    for path in ("picture.jpg", "live.mjpg"):
        answer = client.get(f"/cameras/dark/{path}")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/no-picture")
        assert re.search("dark is (connecting|lost)", answer.json()["detail"])
        assert int(answer.headers["retry-after"]) >= 1
        assert client.get(f"/cameras/garden/{path}").status_code == 404
        for wrong in ("draw=2", "quality=0", "width=-1", "key=secret"):
            assert client.get(f"/cameras/door/{path}?{wrong}").status_code == 422
    assert client.get(f"{LIVE}?fps=0").status_code == 422


def test_live_pictures_come_one_after_the_other(client: httpx.Client) -> None:
    found = live(client, 5, f"{LIVE}?draw=0&fps=60")
    assert all(a < b for (a, _), (b, _) in pairwise(found))
    assert {pixels(data).shape for _, data in found} == {(120, 160, 3)}
    rare = live(client, 3, f"{LIVE}?fps=4")
    assert [round(1e-3 * time * 4 - 0.5) for time, _ in rare] == sorted({int(1e-3 * time * 4) for time, _ in rare})


def test_head_of_live_pictures_ends(client: httpx.Client) -> None:
    answer = client.head(LIVE)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("multipart/x-mixed-replace")


def test_faces_of_a_camera_that_blurs_them_are_in_no_picture(client: httpx.Client) -> None:
    """The model's people have their heads somewhere on the edge between red and grey, which is sharp elsewhere."""
    plain, masked = (pixels(client.get(f"/cameras/{name}/picture.jpg?draw=0").content) for name in ("door", "masked"))
    assert np.abs(plain - masked).max() > 60
    [(_, data)] = live(client, 1, "/cameras/masked/live.mjpg?draw=0")
    assert np.abs(pixels(data) - plain).max() > 60


def test_watchers_who_never_read_are_ended_and_hold_up_nobody(tmp_path: Path, catalogue: Path) -> None:
    with ExitStack() as stack:
        camera = stack.enter_context(HttpCamera(fps=25))
        camera.size = (640, 480)
        environment = {"cameras": camera_file(tmp_path, camera.url), "stall_seconds": 2}
        server = ServerProcess("--model", "pair", catalogue=catalogue, environment=environment)
        stack.enter_context(server)
        client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60, limits=httpx.Limits()))
        wait_for(lambda: client.get(PICTURE).is_success)
        files, before = server.open_files(), server.memory_mb()
        request = f"GET {LIVE}?fps=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        stubborn = [stack.enter_context(RawConnection(server.port, request, receive_buffer=2048)) for _ in range(10)]
        counts = [0] * 20

        def look(number: int) -> None:
            counts[number] = len(live(client, 10))

        threads = [threading.Thread(target=look, args=(number,), daemon=True) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert counts == [10] * 20
        assert server.memory_mb() - before < 80
        client.close()
        wait_for(lambda: server.open_files() <= files)  # those who left are gone, and so are those who never read
        assert all(one.ended() for one in stubborn)


def test_pictures_end_with_their_key_and_with_the_server_and_none_is_written(
    tmp_path: Path, catalogue: Path, filmed: HttpCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    keys, data = tmp_path / "keys", tmp_path / "data"
    data.mkdir()
    keys.write_text(f"{digest(KEY)}\n{digest('another')}\n", "utf-8")
    environment = {"cameras": camera_file(tmp_path, filmed.url), "api_keys_file": keys, "data": data}
    with (
        ServerProcess(
            "--model", "pair", catalogue=catalogue, environment={**environment, "drain_seconds": 0.5}
        ) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        assert [client.get(path).status_code for path in (PICTURE, LIVE, f"{PICTURE}?key={KEY}")] == [401] * 3
        client.headers["x-api-key"] = KEY
        wait_for(lambda: client.get(PICTURE).is_success)
        with (
            client.stream("GET", LIVE) as ours,
            client.stream("GET", LIVE, headers={"x-api-key": "another"}) as others,
        ):
            shown, seen = parts(ours), parts(others)
            next(shown), next(seen)
            keys.write_text(digest("another"), "utf-8")
            server.process.send_signal(signal.SIGHUP)
            list(shown)  # it has an end
            next(seen)
            server.process.send_signal(signal.SIGTERM)
            list(seen)
        assert server.process.wait(60) == 0
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"JFIF" not in file.read_bytes(), file
