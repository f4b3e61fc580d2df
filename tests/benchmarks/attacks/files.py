"""Pictures that cost far more than their bytes: time of native decoders, pixels in memory, unread answers."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from tests.benchmarks.attacks.attacker import Attacker, post
from tests.pictures import encoded

_SLOW = "/pose?timeout_ms=60000"
_TILE_ROWS = 1 << 20


def tall_tiff(samples: int = 1, bits: int = 8) -> bytes:
    """A TIFF of 16384 x 1 pixels in tiles of 16 x 2**20, which all share one piece of compressed zeros.

    libtiff unpacks each tile whole: 16 GiB for one byte a pixel.
    """
    columns = 16384 // 16
    packer = zlib.compressobj(9)
    zeros = bytes(1 << 20)
    tile = b"".join(packer.compress(zeros) for _ in range(16 * samples * bits // 8)) + packer.flush()
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [16384]),
        257: (4, [1]),
        258: (3, [bits] * samples),
        259: (3, [8]),
        262: (3, [1 if samples == 1 else 2]),
        277: (3, [samples]),
        322: (4, [16]),
        323: (4, [_TILE_ROWS]),
        324: (4, [8] * columns),
        325: (4, [len(tile)] * columns),
    }
    tile += bytes(len(tile) % 2)
    extra, entries, at = b"", b"", 8 + len(tile)
    for number, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            where = struct.pack("<I", at + len(extra))
            extra += packed + bytes(len(packed) % 2)
        else:
            where = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", number, kind, len(values)) + where
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", at + len(extra)) + tile + extra + directory


def large_png() -> bytes:
    """25 megapixels with an alpha channel, 100 kB."""
    return encoded(Image.new("RGBA", (5000, 5000), (90, 120, 150, 255)), "PNG")


def noisy_jpeg() -> bytes:
    """12 megapixels of noise: a JPEG of some megabytes, whose PNG has tens of megabytes."""
    noise = np.random.default_rng(1).integers(0, 255, (3000, 4000, 3), np.uint8)
    return encoded(Image.fromarray(noise), quality=20)


def slow_tiffs(attacker: Attacker) -> None:
    """Eight TIFFs at once that take half a minute each: of 24 kB, and of 110 kB with six bytes a pixel."""
    _repeat(attacker, [tall_tiff(), tall_tiff(samples=3, bits=16)], 8)


def large_pngs(attacker: Attacker) -> None:
    """60 PNGs of 25 megapixels at once."""
    _repeat(attacker, [large_png()], 60)


def large_pngs_of_many_in_one(attacker: Attacker) -> None:
    """Four requests of 16 PNGs of 25 megapixels each."""
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + large_png() + b"\r\n"
    request = post(part * 16 + b"--x--\r\n", _SLOW, "Content-Type: multipart/form-data; boundary=x")
    attacker.begin()
    attacker.together(4, lambda: attacker.ask(request), pause=0.5)


def unread_pictures(attacker: Attacker) -> None:
    """32 large pictures as answers. Half of them are read only at the beginning, the others at a byte per second."""
    turns = itertools.cycle((False, True))
    request = post(noisy_jpeg(), _SLOW, "Accept: image/png", "Content-Type: image/jpeg")
    attacker.begin()

    def leave_unread() -> None:
        connection = attacker.connect(receive_buffer=4096)
        if connection is None:
            return
        with connection:
            attacker.send(connection, request)
            data = attacker.receive(connection, 20)
            if attacker.running:
                attacker.outcomes[data[9:12].decode("latin-1") or "closed without an answer"] += 1
            reads = next(turns)
            while data and attacker.running:
                attacker.pause(1)
                data = attacker.receive(connection, 1) if reads else data

    attacker.together(32, leave_unread, pause=0.5)


def picture_answers(attacker: Attacker) -> None:
    """64 clients that request large pictures as answers, and read them."""
    request = post(large_png(), _SLOW, "Accept: image/png", "Content-Type: image/png")
    attacker.begin()
    attacker.together(64, lambda: attacker.ask(request), pause=0.2)


def _repeat(attacker: Attacker, pictures: Iterable[bytes], count: int) -> None:
    """Send these pictures in turn, `count` at a time."""
    turns = itertools.cycle(post(picture, _SLOW) for picture in pictures)
    attacker.begin()
    attacker.together(count, lambda: attacker.ask(next(turns)), pause=0.2)
