"""Frames of a stream: when the detector runs, the minimum score, ids, zones, and continuing from a state."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engines.inputs import Arrays
from service.inference.model_registry import Serving
from service.inference.stage import InferenceOptions
from service.streams.frame_processor import FrameProcessor, ProcessedFrame
from service.streams.protocol import Hello
from service.tracking.zones import Zone
from service.tracking_workers.codec import unpack
from service.tracking_workers.pool import TrackingWorkers
from service.tracking_workers.state import StreamState
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.shared import SHARED, needs_shared, weights_catalogue
from tests.tracking_workers import tracking_workers

JPEG = encoded(photo(1280, 960), quality=90)


@asynccontextmanager
async def processor(
    serving: Serving, workers: TrackingWorkers, state: StreamState | None = None, **members: Any
) -> AsyncIterator[FrameProcessor]:
    hello = Hello(**members)
    options = InferenceOptions(client="stream", min_score=hello.min_score)
    async with workers.stream(serving.default.skeleton, hello.tracking, state) as stream:
        yield FrameProcessor(serving.default.pipeline, stream, hello, options)


async def watch(serving: Serving, pictures: list[bytes], **members: Any) -> list[ProcessedFrame]:
    async with tracking_workers() as workers, processor(serving, workers, **members) as frames:
        return [await frames.process(data, n / 25, deadline=1e12) for n, data in enumerate(pictures)]


def count_detections(serving: Serving, seconds: float = 0.0) -> list[int]:
    """Return a list that gets one item for each batch of the detector. seconds: added to the time of each batch."""
    batches: list[int] = []
    runtime = serving.default.pipeline.stages[0].runtime
    detect = runtime.run

    def counted(feeds: Arrays) -> Any:
        batches.append(1)
        time.sleep(seconds)
        return detect(feeds)

    runtime.run = counted  # type: ignore[method-assign]
    return batches


def test_people_are_reported_in_the_pixels_of_a_picture_that_was_decoded_smaller(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    [processed] = run(serving, watch(serving, [JPEG]))
    assert (processed.width, processed.height) == (1280, 960)
    np.testing.assert_allclose(processed.poses.boxes, [[0, 0, 1280, 960]], atol=4)


def test_ids_are_stable_and_velocities_and_ages_are_extras(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    processed = run(serving, watch(serving, [JPEG] * 4, extras=True, detect_every=0.0))
    assert [each.poses.ids.tolist() for each in processed if each.poses.ids is not None] == [[1, 2]] * 4
    np.testing.assert_allclose(processed[-1].ages, [3 / 25] * 2, atol=1e-6)
    np.testing.assert_allclose(processed[-1].velocities, 0, atol=1)


def test_people_below_the_minimum_score_are_tracked_but_not_reported(catalogue: Path) -> None:
    async def scenario() -> tuple[int, int]:
        async with tracking_workers() as workers, processor(serving, workers, min_score=0.99) as frames:
            processed = await frames.process(JPEG, 0.0, deadline=1e12)
            return len(processed.poses), len(unpack(frames.state).tracker.tracks)

    serving = serve(catalogue, "pair")
    assert run(serving, scenario()) == (0, 2)


def test_another_processor_continues_from_a_state(catalogue: Path) -> None:
    square = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))

    async def scenario() -> tuple[ProcessedFrame, ProcessedFrame, ProcessedFrame]:
        async with tracking_workers() as workers:
            async with processor(serving, workers, zones=(square,), detect_every=0.0) as first:
                before = await first.process(JPEG, 10.0, deadline=1e12)
            async with processor(serving, workers, unpack(first.state), zones=(square,)) as second:
                same = await second.process(JPEG, 14.0, deadline=1e12)
            zones = (square, Zone("too", square.polygon))
            async with processor(serving, workers, unpack(second.state), zones=zones) as other_zones:
                return before, same, await other_zones.process(JPEG, 15.0, deadline=1e12)

    serving = serve(catalogue, "pair")
    before, same, other = run(serving, scenario())
    assert before.poses.ids is not None
    assert same.poses.ids is not None
    assert before.poses.ids.tolist() == same.poses.ids.tolist() == [1, 2]
    assert [event.kind for event in before.events] == ["enter", "enter"]
    assert same.events == []  # they are still inside
    assert len(other.events) == 4  # other zones: everybody enters again


def test_detect_every_changes_nothing_without_a_detector(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    processed = run(serving, watch(serving, [JPEG] * 3, detect_every=10.0))
    assert all(each.poses.boxes.round(-1).tolist() == processed[0].poses.boxes.round(-1).tolist() for each in processed)


def test_a_slow_detector_runs_more_rarely_by_default(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    detections = count_detections(serving, 0.05)
    run(serving, watch(serving, [JPEG] * 15))
    assert 2 <= len(detections) <= 6  # every 200 ms, and every 120 ms if somebody is lost


def test_the_detector_runs_on_every_frame_if_asked_to(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    detections = count_detections(serving, 0.05)
    run(serving, watch(serving, [JPEG] * 3, detect_every=0.0))
    assert len(detections) == 3


@needs_shared
def test_people_are_tracked_between_runs_of_the_detector(tmp_path: Path) -> None:
    pictures = [file.read_bytes() for file in sorted((SHARED / "data/posetrack").glob("*.jpg"))[:8]]
    serving = serve(weights_catalogue(tmp_path), "tinypose-320")
    detections = count_detections(serving)
    processed = run(serving, watch(serving, pictures, detect_every=0.2))
    assert len(detections) <= 3
    assert {tuple(sorted(each.poses.ids.tolist())) for each in processed if each.poses.ids is not None} == {
        (1, 2, 3, 4)
    }
