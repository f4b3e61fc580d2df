"""Pictures of cameras: made once for all who ask, bounded in number, and with faces blurred where the entry says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.batching import OverloadedError
from service.cameras.feed import CameraResult, ResultFeed
from service.cameras.pictures import CameraPicture, PictureMaker, PictureVariant
from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import Hello

PLAIN, DRAWN = PictureVariant(False, 0, 90), PictureVariant(True, 0, 90)
HELLO = Hello()
SIZE = 320, 240


def somebody(*, x: float) -> Poses:
    """A person with the head at (x, 60), of 40 pixels."""
    points = np.full((1, 17, 2), (x, 120), np.float32)
    points[0, :5] = [(x, 60), (x - 8, 55), (x + 8, 55), (x - 16, 60), (x + 16, 60)]
    points[0, 5:7] = [(x - 30, 100), (x + 30, 100)]
    box = np.array([[x - 40, 30, x + 40, 230]], np.float32)
    return Poses(points, np.ones((1, 17), np.float32), box, np.ones(1, np.float32), COCO_17, np.array([1]))


def noise(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)


def a_result(number: int, seconds: float = 0.0, everybody: Poses | None = None) -> CameraResult:
    nobody = somebody(x=0).select(slice(0))
    none = np.zeros((0, 2), np.float32)
    processed = ProcessedFrame(nobody, none, none[:, 0], (), *SIZE, {}, everybody=everybody)
    return CameraResult(number, noise(number), processed, seconds, 0.0, 0)


def pixels_of(picture: CameraPicture | None) -> np.ndarray[Any, Any]:
    assert picture is not None
    return np.asarray(Image.open(BytesIO(picture.data))).astype(float)


def test_a_picture_is_made_once_for_all_and_again_for_the_next_frame() -> None:
    async def story() -> None:
        feed, maker = ResultFeed(), PictureMaker()
        assert await maker.newest(feed, HELLO, PLAIN, "me") is None
        feed.put(a_result(0))
        first, same = await asyncio.gather(*(maker.newest(feed, HELLO, PLAIN, "me") for _ in range(2)))
        assert first is same is await maker.newest(feed, HELLO, PLAIN, "me")
        assert first is not None
        assert (first.frame, np.abs(pixels_of(first) - noise(0)).mean() < 60) == (0, True)
        other = await maker.newest(feed, HELLO, DRAWN, "me")
        assert other is not first
        assert first is await maker.newest(feed, HELLO, PLAIN, "me")
        feed.put(a_result(1))
        later = await maker.newest(feed, HELLO, PLAIN, "me")
        assert later is not None
        assert (later.frame, later.data != first.data) == (1, True)
        feed.clear()
        assert await maker.newest(feed, HELLO, PLAIN, "me") is None
        maker.close()

    asyncio.run(story())


def test_one_who_leaves_does_not_take_the_picture_from_the_others() -> None:
    async def story() -> CameraPicture | None:
        feed, maker = ResultFeed(), PictureMaker()
        feed.put(a_result(0))
        leaving, staying = (asyncio.create_task(maker.newest(feed, HELLO, PLAIN, "me")) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        return await staying

    assert asyncio.run(story()) is not None


def test_too_many_different_pictures_at_once_are_refused_and_one_client_cannot_have_all() -> None:
    async def story() -> list[list[object]]:
        feed, maker = ResultFeed(), PictureMaker()
        feed.put(a_result(0))
        asked = [
            maker.newest(feed, HELLO, PictureVariant(False, 0, quality), client)
            for client, qualities in (("greedy", range(10, 30)), ("a", range(30, 33)), ("b", range(40, 43)))
            for quality in qualities
        ]
        made: list[object] = list(await asyncio.gather(*asked, return_exceptions=True))
        assert await maker.newest(feed, HELLO, PLAIN, "greedy") is not None
        return [made[:20], made[20:23], made[23:]]

    for made, most in zip(asyncio.run(story()), (4, 3, 1), strict=True):
        assert [isinstance(picture, CameraPicture) for picture in made] == [n < most for n in range(len(made))]
        assert all(isinstance(error, OverloadedError) for error in made[most:])


@pytest.mark.parametrize("variant", [PLAIN, DRAWN, PictureVariant(False, 160, 90)])
def test_faces_are_blurred_in_every_picture_also_those_of_a_moment_ago(variant: PictureVariant) -> None:
    async def story() -> list[np.ndarray[Any, Any]]:
        feed, maker = ResultFeed(), PictureMaker()
        for number, x in enumerate((40.0, 120.0, 240.0)):
            feed.put(a_result(number, seconds=0.2 * number, everybody=somebody(x=x)))
        feed.put(a_result(3, seconds=0.45))  # a detector that misses everybody for once
        variants = variant, replace(variant, blurred=True)
        return [pixels_of(await maker.newest(feed, HELLO, each, "me")) for each in variants]

    plain, blurred = asyncio.run(story())
    scale = blurred.shape[1] / SIZE[0]
    spread = {}
    for x in (40, 120, 240):
        rows, columns = (slice(round((at - 6) * scale), round((at + 6) * scale)) for at in (60, x))
        spread[x] = blurred[rows, columns].std() / plain[rows, columns].std()
    assert spread[120] < 0.6
    assert spread[240] < 0.6
    assert spread[40] == pytest.approx(1, abs=0.2)  # too long ago
