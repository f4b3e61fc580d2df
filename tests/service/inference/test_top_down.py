"""Pipelines over small real networks: shared batches, refusals, and cancelled clients."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.catalogue import load
from engines.inputs import Arrays
from engines.poses import Detections, Poses
from service.batching import BatchObserver, DeadlineExceededError, OverloadedError
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.pipeline import estimate_all
from service.inference.stage import InferenceOptions
from service.media.decode import ImageLimits, decode
from service.media.image_files import UndecodableImageError
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.waiting import until

JPEG = encoded(photo(640, 480), quality=90)
OPTIONS = InferenceOptions(min_score=0.0)


class Gated:
    """Wraps a network: records the sizes of its batches, and blocks them until `open` is set."""

    def __init__(self, serving: Serving, name: str) -> None:
        runtime = serving.runtimes[name]
        self._run = runtime.run
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        runtime.run = self.run  # type: ignore[method-assign]

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        self.batches.append(len(next(iter(feeds.values()))))
        self.open.wait(30)
        return self._run(feeds)


def test_people_are_detected_and_estimated_in_the_pixels_of_the_image(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    estimate = run(serving, serving.default.pipeline.image(JPEG, OPTIONS))
    assert (estimate.width, estimate.height, len(estimate.poses)) == (640, 480, 2)
    boxes = sorted(estimate.poses.boxes.round(0).tolist())  # the detector's 320 pixels show 640
    np.testing.assert_allclose(boxes, [[80, 80, 240, 440], [360, 120, 520, 460]], atol=1)
    for points, (x1, y1, x2, y2) in zip(estimate.poses.keypoints, estimate.poses.boxes, strict=True):
        wide, high = x2 - x1, y2 - y1
        assert (points > (x1 - wide, y1 - high)).all()
        assert (points < (x2 + wide, y2 + high)).all()
    assert all(seconds >= 0 for seconds in estimate.timing.parts().values())


def test_people_are_limited_by_score_and_count(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")

    async def scenario() -> tuple[int, int]:
        best = await serving.default.pipeline.image(JPEG, InferenceOptions(min_score=0.0, max_people=1))
        none = await serving.default.pipeline.image(JPEG, InferenceOptions(min_score=1.0))
        return len(best.poses), len(none.poses)

    assert run(serving, scenario()) == (1, 0)


def test_a_reduced_decode_gives_the_same_positions(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    large = encoded(photo(640, 480).resize((2560, 1920)), quality=95)

    async def scenario() -> tuple[NDArray[Any], NDArray[Any], int]:
        pipeline = serving.default.pipeline
        image, _ = await pipeline.decode(large, OPTIONS)
        small, (full, _) = (
            await pipeline.image(large, OPTIONS),
            await pipeline.frame(decode(large, ImageLimits()).pixels, OPTIONS),
        )
        return small.poses.boxes, full.boxes, image.scale

    small, full, scale = run(serving, scenario())
    assert scale == 2
    np.testing.assert_allclose(small, full, atol=2)


def test_small_images_are_decoded_by_the_workers_of_the_network_and_large_ones_by_others(catalogue: Path) -> None:
    class Batches(BatchObserver):
        def __init__(self) -> None:
            self.names: list[str] = []

        def batch_started(self, name: str, items: int, units: int) -> None:  # noqa: ARG002 - the signature is the base class's
            self.names.append(name)

    batches = Batches()
    serving = open_serving(load([catalogue]), ["tiny"], Settings(), batches)

    async def scenario() -> None:
        pipeline = serving.default.pipeline
        await pipeline.image(JPEG, OPTIONS)
        assert batches.names == ["tiny"]
        await pipeline.image(encoded(photo(1600, 1200)), OPTIONS)
        assert batches.names == ["tiny", "decode", "tiny"]
        await estimate_all(pipeline, [JPEG] * 3, OPTIONS)
        assert batches.names.count("decode") == 1

    run(serving, scenario())


def test_crops_of_different_clients_share_a_batch(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    gate = Gated(serving, "pair")

    async def scenario() -> None:
        pipeline = serving.default.pipeline
        await pipeline.image(JPEG, OPTIONS)  # a first batch that is held up would make later ones short
        gate.batches.clear()
        gate.open.clear()
        tasks = [
            asyncio.create_task(pipeline.image(JPEG, InferenceOptions(client=str(n), min_score=0))) for n in range(6)
        ]
        stage = pipeline.stages[-1]
        workers = stage.runtime.spec.concurrency
        await until(lambda: stage.batcher.stats.waiting_units + sum(gate.batches) == 12)  # all crops of all six
        await until(lambda: len(gate.batches) == workers)
        gate.open.set()
        await asyncio.gather(*tasks)

    run(serving, scenario())
    assert sum(gate.batches) == 12
    assert max(gate.batches) > 2  # with two people a frame, more than two crops are of several clients


def test_of_two_predicted_boxes_at_one_person_the_better_is_kept(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    frame = np.asarray(photo(640, 480))
    apart = Detections(np.array([[0, 0, 300, 400], [320, 0, 620, 400]], np.float32), np.array([0.5, 0.9], np.float32))
    same = Detections(np.array([[0, 0, 300, 400], [2, 0, 302, 401]], np.float32), np.array([0.5, 0.9], np.float32))

    async def found(people: Detections) -> Poses:
        return (await serving.default.pipeline.frame(frame, InferenceOptions(min_score=0), people))[0]

    async def scenario() -> tuple[Poses, Poses]:
        return await found(apart), await found(same)

    two, one = run(serving, scenario())
    assert (len(two), len(one)) == (2, 1)
    np.testing.assert_array_equal(one.boxes, same.boxes[1:])


def test_a_broken_image_does_not_affect_others(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    first, broken, last = run(serving, estimate_all(serving.default.pipeline, [JPEG, JPEG[:999], JPEG], OPTIONS))
    assert isinstance(broken, UndecodableImageError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    np.testing.assert_array_equal(first.poses.keypoints, last.poses.keypoints)


def test_crops_of_a_cancelled_client_do_not_run(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    gate = Gated(serving, "tiny")

    async def scenario() -> None:
        gate.open.clear()
        pipeline = serving.default.pipeline
        stage = pipeline.stages[-1]
        workers = stage.runtime.spec.concurrency
        busy = [asyncio.create_task(pipeline.image(JPEG, OPTIONS)) for _ in range(workers)]
        await until(lambda: len(gate.batches) == workers)
        cancelled = asyncio.create_task(pipeline.image(JPEG, OPTIONS))
        await until(lambda: stage.batcher.stats.waiting_items == 1)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        assert stage.batcher.stats.waiting_items == 0
        gate.open.set()
        await asyncio.gather(*busy)
        assert sum(gate.batches) == workers

    run(serving, scenario())


def test_deadlines_that_have_passed_or_cannot_be_met_are_refused(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    gate = Gated(serving, "tiny")

    async def scenario() -> None:
        pipeline = serving.default.pipeline
        await pipeline.image(JPEG, OPTIONS)  # so that the idle pipeline knows how long a batch takes
        with pytest.raises(DeadlineExceededError):
            pipeline.test(InferenceOptions(deadline=time.monotonic() - 1))
        gate.open.clear()
        tasks = [asyncio.create_task(pipeline.image(JPEG, OPTIONS)) for _ in range(40)]
        stage = pipeline.stages[-1]
        await until(lambda: stage.batcher.stats.waiting_items >= 20)
        with pytest.raises(OverloadedError) as refusal:
            pipeline.test(InferenceOptions(deadline=time.monotonic() + 0.001))
        assert refusal.value.retry_after_s > 0
        with pipeline.admit(InferenceOptions(deadline=time.monotonic() + 600)) as admitted:
            assert sorted(admitted.reservations) == ["decode", "tiny"]
        gate.open.set()
        await asyncio.gather(*tasks)

    run(serving, scenario())


def test_boxes_from_a_tracker_skip_the_detector(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    detector = Gated(serving, "pair-detector")
    frame = np.asarray(photo(640, 480))
    boxes = np.array([[100, 50, 300, 450]], np.float32)
    known = Detections(boxes, np.ones(1, np.float32))
    poses, timing = run(serving, serving.default.pipeline.frame(frame, OPTIONS, known))
    assert poses.boxes.tolist() == boxes.tolist()
    assert detector.batches == []
    assert timing.infer > 0
