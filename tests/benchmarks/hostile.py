"""Hostile requests, generated from a seed, so that failures can be reproduced."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.benchmarks import broken_pictures
from tests.benchmarks.broken_pictures import Size, pictures
from tests.benchmarks.load import Shot

_BROKEN = frozenset({400, 415})
"""Statuses of a broken file, whose beginning may be valid or not."""
_REFUSED = frozenset({400, 413, 415, 422})
"""Statuses of invalid bodies."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its right answers. size: the (width, height) that a 200 must report, if known."""

    family: str
    shot: Shot
    allowed: frozenset[int]
    size: Size | None = None


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Generate bad requests of all families, mixed."""
    rng = Random(seed)  # noqa: S311 - it has to be reproducible
    makers, weights = zip(*_FAMILIES, strict=True)
    for maker in rng.choices(makers, weights, k=count):
        yield maker(rng)


def good_cases() -> list[Case]:
    """Every kind of valid picture."""
    return [Case("good", Shot(data, "/pose?min_score=0"), frozenset({200}), size) for data, size in pictures().items()]


def _file(make: Callable[[Random], bytes], allowed: frozenset[int]) -> Callable[[Random], Case]:
    name = make.__name__.replace("_", " ")
    return lambda rng: Case(name, Shot(make(rng), "/pose?min_score=0"), allowed)


def _picture() -> bytes:
    return next(iter(pictures()))


def _json(rng: Random) -> Case:
    data = base64.b64encode(_picture()).decode()
    documents: tuple[object, ...] = (
        {}, {"image": 7}, {"image": None}, {"image": []}, {"image": ""}, {"picture": data}, {"images": data},
        {"images": []}, {"images": [data] * 17}, {"images": [[data]]}, {"image": data, "images": [data]},
        {"image": data[:-3]}, {"image": data + "!"}, {"image": "data:image/jpeg;base64,%%%"},
        {"image": "https://example.com/a.jpg"}, {"image": "file:///etc/passwd"}, {"image": "\U0001f600" * 100},
        {"image": base64.b64encode(rng.randbytes(300)).decode()},
    )  # fmt: skip
    texts = (b"", b"{", b"null", b"[]", b"7", b'"image"', b'{"image": ', b'{"image": NaN}', b"\xff{}", b"[" * 100_000)
    body = rng.choice((*texts, *(json.dumps(document).encode() for document in documents)))
    return Case("bad JSON", Shot(body, headers=("Content-Type: application/json",)), _REFUSED)


def _multipart(rng: Random) -> Case:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    data, end = _picture(), b"\r\n--x--\r\n"
    bodies = (
        b"", b"--x--", b"--x\r\nbroken", data, part + data, part.replace(b"image", b"picture") + data + end,
        part.replace(b"; filename", b"; no") + b"text" + end, b"--x\r\n" + b"A: b\r\n" * 10_000,
        b"--x\r\n" + b"A" * 100_000, (part + data + b"\r\n") * 17 + end[2:], (part + b"\r\n") * 300 + end[2:],
        part + rng.randbytes(200) + end, part.replace(b"\r\n\r\n", b"\r\n") + data + end,
    )  # fmt: skip
    boundary = rng.choice(("; boundary=x", "; boundary=x", "; boundary=x", "", "; boundary=", "; boundary=yy"))
    shot = Shot(rng.choice(bodies), headers=(f"Content-Type: multipart/form-data{boundary}",))
    return Case("bad multipart", shot, _REFUSED)


_QUERIES = (
    "min_score=2", "min_score=nan", "min_score=", "min_score=1e999", "max_people=0", "max_people=-1", "max_people=1e9",
    "max_people=99999999999999999999", "skeleton=octopus", "format=xml", "timeout_ms=soon", "timeout_ms=0", "%00=1",
    "timeout_ms=-5", "priority=live", "colour=red", "min_score=0.1&colour=%zz", "model=%00", "model=../../etc/passwd",
    "format=json;drop", "min_score=%F0%9F%98%80", "max_people=1&max_people=0", "model=" + "x" * 4000, "model=",
)  # fmt: skip
_TYPES = ("video/mp4", "text/plain", "application/pdf", "multipart/mixed", "x" * 5000, "/", "jpeg")
_PATHS = ("/", "/poses", "/pose/../etc/passwd", "/pose%2f", "/models", "/livez", "/problems/none", "//pose")


def _query(rng: Random) -> Case:
    return Case("bad query", Shot(_picture(), f"/pose?{rng.choice(_QUERIES)}"), frozenset({404, 422}))


def _content_type(rng: Random) -> Case:
    shot = Shot(_picture(), headers=(f"Content-Type: {rng.choice(_TYPES)}",))
    return Case("bad content type", shot, frozenset({415}))


def _path(rng: Random) -> Case:
    return Case("bad path", Shot(_picture(), rng.choice(_PATHS)), frozenset({404, 405}))


_FAMILIES: tuple[tuple[Callable[[Random], Case], int], ...] = (
    (_file(broken_pictures.truncated, _BROKEN), 30),
    (_file(broken_pictures.mutated, _REFUSED | {200}), 30),
    (_file(broken_pictures.random_bytes, _REFUSED), 10),
    (_file(broken_pictures.stranger, frozenset({415})), 5),
    (_file(broken_pictures.huge, frozenset({413})), 5),
    (_file(broken_pictures.bomb, _BROKEN), 3),
    (_file(broken_pictures.silly_tiff, _REFUSED | {200}), 5),  # some tags are silly and mean nothing
    (_json, 4),
    (_multipart, 4),
    (_query, 3),
    (_content_type, 2),
    (_path, 1),
)
"""Generators and their weights."""
