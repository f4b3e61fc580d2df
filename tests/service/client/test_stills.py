"""Images: typed results, and retries until a server answers."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.client import AsyncClient, Client, ProblemError, UnavailableError
from tests.servers import ServerProcess

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"type": "/problems/overloaded", "title": "busy", "detail": "try again"}'
)
_PROXY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"


@contextmanager
def unlucky(server: ServerProcess, *answers: bytes) -> Iterator[str]:
    """A proxy that answers the first connections with `answers` (b"" hangs up) and forwards the others; its URL."""
    front = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def hand_on(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", server.port)) as onward:
            other = {client: onward, onward: client}
            while True:
                for source in select.select([client, onward], [], [])[0]:
                    if not (data := source.recv(65536)):
                        return
                    other[source].sendall(data)

    def accept() -> None:
        left = list(answers)
        while True:
            try:
                client, _ = front.accept()
            except OSError:
                return
            if left:
                with client, client.makefile("rb") as request:
                    head = b"".join(iter(request.readline, b"\r\n"))
                    request.read(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
                    client.sendall(left.pop(0))
                continue
            threads.append(threading.Thread(target=hand_on, args=(client,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{front.getsockname()[1]}"
    finally:
        front.shutdown(socket.SHUT_RDWR)
        front.close()
        for each in (thread, *threads):
            each.join(10)


def test_an_image_gives_people(server: ServerProcess, jpeg: bytes, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(jpeg)
    with Client(f"{server.url}/") as client:
        result = client.pose(file, model="pair", max_people=1, min_score=0.0)
        assert (result.width, result.height, result.model, result.skeleton) == (640, 480, "pair", "coco-17")
        [person] = result.people
        assert len(person.keypoints) == 17
        assert 0 < person.keypoints[0].score <= 1
        assert person.id is None
        assert len(client.pose(jpeg, model="pair").people) == 2


def test_the_asyncio_client_gives_the_same(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> list[int]:
        async with AsyncClient(server.url) as client:
            results = await asyncio.gather(*(client.pose(jpeg) for _ in range(5)))
        return [len(result.people) for result in results]

    assert asyncio.run(story()) == [2] * 5


def test_rejected_requests_are_not_retried(server: ServerProcess, jpeg: bytes) -> None:
    with Client(server.url) as client:
        for image, options, kind, status in (
            (b"no picture", {}, "not-an-image", 415),
            (jpeg[:2000], {}, "undecodable-image", 400),
            (jpeg, {"model": "nobody"}, "unknown-model", 404),
        ):
            with pytest.raises(ProblemError) as refused:
                client.pose(image, **options)  # type: ignore[arg-type]
            assert (refused.value.kind, refused.value.status) == (kind, status)


def test_an_answer_that_is_not_a_result_is_an_error(server: ServerProcess, jpeg: bytes) -> None:
    other = b'{"width": 1, "height": 1, "model": "m", "skeleton": "s", "people": [[1]]}'
    for body in (b"<html>sign in</html>", b"[]", b'{"people": []}', other, b"[" * 100_000):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        with unlucky(server, answer) as url, Client(url) as client, pytest.raises(ProblemError, match="no result"):
            client.pose(jpeg)


@pytest.mark.parametrize("mishaps", [(b"",), (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), (_PROXY, b"")])
def test_a_lost_connection_is_retried(server: ServerProcess, jpeg: bytes, mishaps: tuple[bytes, ...]) -> None:
    with unlucky(server, *mishaps) as url, Client(url) as client:
        assert len(client.pose(jpeg).people) == 2

    async def story(url: str) -> int:
        async with AsyncClient(url) as client:
            return len((await client.pose(jpeg)).people)

    with unlucky(server, *mishaps) as url:
        assert asyncio.run(story(url)) == 2


def test_retry_after_is_respected(server: ServerProcess, jpeg: bytes) -> None:
    with unlucky(server, _BUSY) as url, Client(url) as client:
        started = time.monotonic()
        assert len(client.pose(jpeg).people) == 2
        assert time.monotonic() - started >= 1


def test_another_server_is_tried_at_once(server: ServerProcess, jpeg: bytes) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Client([gone, server.url]) as client:
            assert len(client.pose(jpeg).people) == 2
        with Client(gone, deadline=0.4) as client, pytest.raises(UnavailableError, match=r"no answer within 0\.4 s"):
            client.pose(jpeg)


def test_an_invalid_url_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="like http://localhost:8000"):
        Client("localhost:8000")
    with pytest.raises(ValueError, match="name the URL"):
        AsyncClient([])


def test_a_deadline_may_be_longer_than_a_server_accepts(server: ServerProcess, jpeg: bytes) -> None:
    with Client(server.url, deadline=3600) as client:
        assert client.pose(jpeg).width == 640


def test_a_file_name_is_not_an_image(server: ServerProcess) -> None:
    with Client(server.url) as client, pytest.raises(TypeError, match=r"say Path\('photo.jpg'\)"):
        client.pose("photo.jpg")  # type: ignore[arg-type]
