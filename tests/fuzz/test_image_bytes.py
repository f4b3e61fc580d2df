"""Corrupted images go through a real decoder process: each gets an answer, and the process survives.

Runs for some seconds, or for POSEWIRE_FUZZ_SECONDS. A failure names the seed that reproduces it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest

from service.media.decode import DecodedImage, ImageError, ImageLimits, decode, recognise
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from tests.benchmarks import broken_pictures
from tests.service.media.files import files
from tests.service.media.test_like_opencv import FILES

SECONDS = float(os.environ.get("POSEWIRE_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("POSEWIRE_FUZZ_SEED", str(time.time_ns())))
LIMITS = ImageLimits(max_pixels=1_000_000, max_side=4_000)
NEEDS = (40, 40)
MAKERS = (
    broken_pictures.mutated,
    broken_pictures.truncated,
    broken_pictures.random_bytes,
    broken_pictures.huge,
    broken_pictures.bomb,
    broken_pictures.silly_tiff,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(1, Bounds(memory=160_000_000, cpu_seconds=2)) as opened:
        yield opened


def corrupted(rng: Random, sources: list[bytes]) -> bytes:
    """Return a file with bytes changed, removed, repeated or taken from another file, mostly near its beginning."""
    data = bytearray(rng.choice(sources))
    for _ in range(rng.randint(1, 12)):
        at = int(len(data) * rng.random() ** rng.choice((1, 3)))
        match rng.randrange(6):
            case 0 if data:
                data[min(at, len(data) - 1)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
            case 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 2:
                data[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
            case 3:
                del data[at : at + rng.randint(1, 64)]
            case 4:
                data[at:at] = data[at : at + rng.randint(1, 300)] * rng.randint(1, 5)
            case _:
                other = rng.choice(sources)
                start = rng.randrange(len(other))
                data[at : at + 16] = other[start : start + rng.randint(1, 200)]
    return bytes(data)


def check(image: DecodedImage) -> None:
    rows, columns, _ = image.pixels.shape
    assert image.width * image.height <= LIMITS.max_pixels
    assert 0 <= columns - max(1, image.width // image.scale) <= 1
    assert 0 <= rows - max(1, image.height // image.scale) <= 1


def test_every_corrupted_image_gets_an_answer_and_valid_ones_are_decoded_afterwards(pool: DecoderPool) -> None:
    rng = Random(SEED)  # noqa: S311 - it has to be reproducible
    sources = [data for data, _, _ in files().values()] + list(FILES.values())
    outcomes = {"picture": 0, "error": 0}
    stop = time.monotonic() + SECONDS
    while time.monotonic() < stop or sum(outcomes.values()) < 50:
        data = corrupted(rng, sources) if rng.random() < 0.7 else rng.choice(MAKERS)(rng)
        needs = rng.choice((None, NEEDS))
        try:
            check(decode(data, LIMITS, needs=needs, pool=pool))
            outcomes["picture"] += 1
        except ImageError:
            outcomes["error"] += 1
        except BaseException as error:
            raise AssertionError(f"POSEWIRE_FUZZ_SEED={SEED}: {data[:2000]!r} raised {error!r}") from error
    assert min(outcomes.values()) > 0
    for data, image, tolerance in files().values():
        pixels = decode(data, LIMITS, pool=pool).pixels
        assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).mean() <= tolerance


def hostile_headers(rng: Random) -> bytes:
    """Return the beginning of a JPEG of 500 kB whose segments are as costly to parse as possible."""
    parts = [b"\xff\xd8\xff\xfe\0\2"]
    size = 0
    while size < 490_000:
        count = rng.choice((0, 1, 5_000, 0xFFFF))
        block = b"Exif\0\0" + rng.choice((b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")) + count.to_bytes(2, "little")
        content = rng.choice((b"", block + bytes(rng.choice((0, 12, 60_000)))))
        stray = rng.choice((b"", b"\0", b"\xff" * 60, b"\xff\0" * 30, bytes(rng.randrange(60))))
        parts.append(stray + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content)
        size += len(parts[-1])
    return b"".join(parts) + b"\xff\xc0" + b"\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0" + b"\xff\xda\0\x08\x01\x01\0\0?\0"


def test_no_header_takes_long_on_the_event_loop() -> None:
    rng = Random(SEED)  # noqa: S311 - it has to be reproducible
    limits = ImageLimits(max_bytes=40_000_000)
    worst = [
        filling * (32_000_000 // len(filling)) for filling in (b"\0", b"\xff", b"\xff\0", b"\xff\xfe\0\2", b"\xff\1")
    ]
    headers = [b"\xff\xd8\xff\xfe\0\2" + filling for filling in worst] + [hostile_headers(rng) for _ in range(20)]
    for data in headers:
        began = time.thread_time()
        with contextlib.suppress(ImageError):
            recognise(data, limits)
        assert time.thread_time() - began < 0.05, f"POSEWIRE_FUZZ_SEED={SEED}"  # processor time; 2 ms on a free core
