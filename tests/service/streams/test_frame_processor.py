"""What a stream sees: the detector's turns, the least score, zones and smoothing, a memory to go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engines.runtimes.base import Arrays
from service.inference.model_registry import Serving
from service.inference.stage import InferenceOptions
from service.streams.codec import unpack
from service.streams.frame_processor import FrameProcessor, ProcessedFrame
from service.streams.protocol import Hello
from service.streams.state import Memory
from service.tracking.zones import Zone
from service.tracking_workers.pool import TrackingWorkers
from tests.following import followers
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.shared import SHARED, needs_shared, weights_catalogue

JPEG = encoded(photo(1280, 960), quality=90)


@asynccontextmanager
async def processor(
    serving: Serving, following: TrackingWorkers, memory: Memory | None = None, **wishes: Any
) -> AsyncIterator[FrameProcessor]:
    hello = Hello(**wishes)
    options = InferenceOptions(client="stream", min_score=hello.min_score)
    async with following.stream(serving.default.skeleton, hello, memory) as stream:
        yield FrameProcessor(serving.default.pipeline, stream, hello, options)


async def watch(serving: Serving, pictures: list[bytes], **wishes: Any) -> list[ProcessedFrame]:
    async with followers() as following, processor(serving, following, **wishes) as seeing:
        return [await seeing.see(data, n / 25, deadline=1e12) for n, data in enumerate(pictures)]


def count_detections(serving: Serving) -> list[int]:
    """Grows by one for every batch of the detector."""
    batches: list[int] = []
    runtime = serving.default.pipeline.stages[0].runtime
    detect = runtime.run

    def counted(feeds: Arrays) -> Any:
        batches.append(1)
        return detect(feeds)

    runtime.run = counted  # type: ignore[method-assign]
    return batches


def test_people_are_told_in_the_pixels_of_the_picture_though_it_was_decoded_smaller(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    [seen] = run(serving, watch(serving, [JPEG]))
    assert (seen.width, seen.height) == (1280, 960)
    np.testing.assert_allclose(seen.poses.boxes, [[0, 0, 1280, 960]], atol=4)


def test_ids_hold_and_tracks_are_told_on_request(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    seen = run(serving, watch(serving, [JPEG] * 4, extras=True))
    assert [each.poses.ids.tolist() for each in seen if each.poses.ids is not None] == [[1, 2]] * 4
    np.testing.assert_allclose(seen[-1].ages, [3 / 25] * 2, atol=1e-6)
    np.testing.assert_allclose(seen[-1].velocities, 0, atol=1)


def test_who_scores_too_little_to_be_told_is_tracked_all_the_same(catalogue: Path) -> None:
    async def story() -> tuple[int, int]:
        async with followers() as following, processor(serving, following, min_score=0.99) as seeing:
            seen = await seeing.see(JPEG, 0.0, deadline=1e12)
            return len(seen.poses), len(unpack(seeing.state).tracker.tracks)

    serving = serve(catalogue, "pair")
    assert run(serving, story()) == (0, 2)


def test_another_sight_goes_on_from_a_memory(catalogue: Path) -> None:
    square = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))

    async def story() -> tuple[ProcessedFrame, ProcessedFrame, ProcessedFrame]:
        async with followers() as following:
            async with processor(serving, following, zones=(square,)) as first:
                before = await first.see(JPEG, 10.0, deadline=1e12)
            async with processor(serving, following, unpack(first.state), zones=(square,)) as second:
                same = await second.see(JPEG, 14.0, deadline=1e12)
            zones = (square, Zone("too", square.polygon))
            async with processor(serving, following, unpack(second.state), zones=zones) as other_zones:
                return before, same, await other_zones.see(JPEG, 15.0, deadline=1e12)

    serving = serve(catalogue, "pair")
    before, same, other = run(serving, story())
    assert before.poses.ids is not None
    assert same.poses.ids is not None
    assert before.poses.ids.tolist() == same.poses.ids.tolist() == [1, 2]
    assert [event.kind for event in before.events] == ["enter", "enter"]
    assert same.events == []  # they are in it still
    assert len(other.events) == 4  # other zones: everybody enters anew


def test_without_a_detector_there_is_nothing_to_save(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    seen = run(serving, watch(serving, [JPEG] * 3, detect_every=10.0))
    assert all(each.poses.boxes.round(-1).tolist() == seen[0].poses.boxes.round(-1).tolist() for each in seen)


def test_every_frame_is_searched_unless_said_otherwise(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    detections = count_detections(serving)
    run(serving, watch(serving, [JPEG] * 3))
    assert len(detections) == 3


@needs_shared
def test_between_searches_people_are_followed(tmp_path: Path) -> None:
    pictures = [file.read_bytes() for file in sorted((SHARED / "data/posetrack").glob("*.jpg"))[:8]]
    serving = serve(weights_catalogue(tmp_path), "tinypose-320")
    detections = count_detections(serving)
    seen = run(serving, watch(serving, pictures, detect_every=0.2))
    assert len(detections) <= 3
    assert {tuple(sorted(each.poses.ids.tolist())) for each in seen if each.poses.ids is not None} == {(1, 2, 3, 4)}
