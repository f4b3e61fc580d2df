"""Pictures of cameras: each is made once for all who ask, on a thread, and only while somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from engines.poses import Poses
from service.cameras.feed import CameraResult, ResultFeed
from service.media.faces import blur_circles, head_circles
from service.media.pixels import encode
from service.media.scene import draw_scene, narrowed
from service.quota import Quota
from service.streams.protocol import Hello

_MOST_WAITING = 64
"""Pictures that may wait for the thread, for all cameras: at most about a second of its work."""
_MOST_OF_A_CAMERA = 8
"""Variants of one camera's pictures that are made or kept at once."""
_SHARE = 0.5
"""The part of both that one client may have made."""


@dataclass(frozen=True, slots=True)
class PictureVariant:
    """How a picture is made. drawn: with people, zones and lines. width: at most, pixels; 0: the camera's own.

    quality: of the JPEG, 1..100. blurred: without faces.
    """

    drawn: bool
    width: int
    quality: int
    blurred: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CameraPicture:
    """A JPEG. frame: the feed's number of it. time: of the frame, seconds since 1970."""

    data: bytes
    frame: int
    time: float


class PictureMaker:
    """Makes the pictures of all cameras on one thread, so that they take one core at most. For one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="posewire-camera-picture")
        self._turn = asyncio.Lock()
        self._waiting = Quota("pictures of cameras that are being made", _MOST_WAITING, _SHARE)
        self._of_camera: WeakKeyDictionary[ResultFeed, Quota] = WeakKeyDictionary()
        self._made: WeakKeyDictionary[ResultFeed, dict[PictureVariant, CameraPicture]] = WeakKeyDictionary()
        self._making: WeakKeyDictionary[ResultFeed, dict[PictureVariant, asyncio.Task[CameraPicture | None]]]
        self._making = WeakKeyDictionary()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def newest(
        self, feed: ResultFeed, hello: Hello, variant: PictureVariant, client: str
    ) -> CameraPicture | None:
        """Return a picture of the newest result, None if there is none. hello: has the zones and lines.

        A picture that is being made for somebody else may be of the result before. Raises QuotaExceededError if too
        many pictures wait, or too many variants of one camera's, of all clients or of this one.
        """
        feed.want_pictures()
        if feed.newest is None or not feed.newest.pixels.size:
            self._made.pop(feed, None)
            return None
        made = self._made.get(feed, {}).get(variant)
        if made is not None and made.frame == feed.frame:
            return made
        making = self._making.setdefault(feed, {})
        if variant not in making:
            variants = self._of_camera.setdefault(feed, Quota("pictures of a camera", _MOST_OF_A_CAMERA, _SHARE))
            with ExitStack() as leases:
                leases.enter_context(self._waiting.take(client))
                leases.enter_context(variants.take(client))
                making[variant] = asyncio.create_task(
                    self._make(feed, hello, variant, leases.pop_all()), name="posewire-camera-picture"
                )
        return await asyncio.shield(making[variant])  # others may wait for it, too

    async def _make(
        self, feed: ResultFeed, hello: Hello, variant: PictureVariant, leases: ExitStack
    ) -> CameraPicture | None:
        loop = asyncio.get_running_loop()
        try:
            async with self._turn:
                if (result := feed.newest) is None or not result.pixels.size:  # it was paused meanwhile
                    return None
                frame, faces = feed.frame, feed.faces() if variant.blurred else ()
                data = await loop.run_in_executor(self._pool, render, result, hello, faces, variant)
        finally:
            leases.close()
            del self._making[feed][variant]
        made = CameraPicture(data, frame, result.time)
        current = [(other, kept) for other, kept in self._made.get(feed, {}).items() if kept.frame == frame]
        self._made[feed] = {**dict(current[1 - _MOST_OF_A_CAMERA :]), variant: made}
        return made


def render(result: CameraResult, hello: Hello, faces: Sequence[Poses], variant: PictureVariant) -> bytes:
    """Return a JPEG of a result. faces: of the people whose faces are blurred, in pixels of the frame."""
    pixels = narrowed(result.pixels, variant.width)
    scale = pixels.shape[1] / result.pixels.shape[1]
    in_place = pixels is not result.pixels
    circles = np.concatenate([head_circles(poses) for poses in faces]) * scale if faces else None
    if variant.drawn:
        people = result.processed.poses.scaled(scale)
        pixels = draw_scene(pixels, people, hello.zones, hello.lines, faces=circles, in_place=in_place)
    elif circles is not None:
        pixels = pixels if in_place else pixels.copy()
        blur_circles(pixels, circles)
    return encode(pixels, "image/jpeg", quality=variant.quality)
