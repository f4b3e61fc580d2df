"""Attacks on video jobs and on the watching of cameras. Deployments have the camera `CAMERA`."""

from __future__ import annotations

import itertools
import re
import secrets
from contextlib import closing
from http.client import HTTPConnection

from tests.benchmarks.attacks.attacker import ADDRESS, Attacker, get, head, post
from tests.benchmarks.attacks.websockets import TEXT, frame, upgrade
from tests.pictures import encoded, photo

CAMERA = "door"
_WATCHERS = 300
_UPLOAD = 4_000_000
_BLOCK = 1 << 16


def result_watchers(attacker: Attacker) -> None:
    """300 watchers of one camera that want every result and acknowledge none."""
    attacker.begin()
    opening = upgrade(f"/cameras/{CAMERA}/results")
    attacker.hold(itertools.repeat(opening, _WATCHERS), greeting=frame(TEXT, b'{"window":0}'))


def picture_watchers(attacker: Attacker) -> None:
    """300 who watch the pictures of one camera in many sizes; half of them never read."""
    attacker.begin()
    paths = [f"/cameras/{CAMERA}/live.mjpg?fps=30&width={160 * (1 + n % 12)}" for n in range(_WATCHERS)]
    unread = [connection for path in paths[::2] if (connection := attacker.connect(receive_buffer=2048))]
    for connection, path in zip(unread, paths[::2], strict=False):
        attacker.send(connection, get(path))
    attacker.hold([get(path) for path in paths[1::2]])
    for connection in unread:
        connection.close()


def picture_variants(attacker: Attacker) -> None:
    """The newest picture of a camera in ever more sizes and qualities."""
    attacker.begin()
    variants = itertools.cycle(itertools.product(range(160, 3840, 160), range(10, 110, 10), (0, 1)))

    def ask() -> None:
        width, quality, drawn = next(variants)
        attacker.ask(get(f"/cameras/{CAMERA}/picture.jpg?width={width}&quality={quality}&draw={drawn}"))

    attacker.together(16, ask)


def job_readers(attacker: Attacker) -> None:
    """A long video job whose events and results 300 connections follow. It is deleted at the end."""
    clip = encoded(photo(320, 240)) * 2000
    attacker.begin()
    connection = attacker.connect()
    if connection is None:
        return
    with connection:
        attacker.send(connection, post(clip, "/videos?name=long.mjpeg", "Content-Type: video/x-motion-jpeg"))
        told = attacker.receive(connection)
    found = re.search(rb"(?i)\r\nlocation: (/videos/[\w-]+)", told)
    if found is None:
        attacker.outcomes[told[9:12].decode() or "closed without an answer"] += 1
        return
    job = found[1].decode()
    paths = itertools.cycle((f"{job}/events", f"{job}/poses?format=ndjson"))
    attacker.hold(get(path) for path in itertools.islice(paths, _WATCHERS))
    with closing(HTTPConnection(attacker.host, attacker.port, timeout=30, source_address=(ADDRESS, 0))) as client:
        client.request("DELETE", job)
        client.getresponse()


def video_uploads(attacker: Attacker) -> None:
    """Uploads at full speed: files that are left unfinished, and forms that almost end again and again."""
    boundary = "a" * 60
    form = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\n\r\n'.encode()
    near = (b"\r\n--" + b"a" * 59 + b"b") * (_BLOCK // 64)
    attacker.begin()
    kinds = itertools.cycle((
        (2 * _UPLOAD, b"", secrets.token_bytes(_BLOCK), "video/mp4"),
        (len(form) + _UPLOAD, form, near, f"multipart/form-data; boundary={boundary}"),
    ))  # fmt: skip

    def upload() -> None:
        length, start, block, kind = next(kinds)
        connection = attacker.connect()
        if connection is None:
            return
        with connection:
            going = attacker.send(connection, head(length, "/videos", f"Content-Type: {kind}") + start)
            left = _UPLOAD
            while going and left > 0:
                going = attacker.send(connection, block[:left])
                left -= len(block)
            if length == len(start) + _UPLOAD:
                attacker.answer(connection)

    attacker.together(4, upload)
