"""Memory, shares, deadlines and cancelled clients in the decode stage, with real pictures and processes."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from engines.poses import Poses
from engines.skeletons import SKELETONS
from service.batching import Batcher, DeadlineExceededError
from service.inference.decode_stage import DecodeStage, decoder_pool
from service.inference.stage import InferenceOptions
from service.inference.video_stage import StreamDecoder
from service.media.decode import ImageLimits, NotAnImageError, UndecodableImageError
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from service.media.image_files import FRAMES
from service.quota import Quota, QuotaExceededError
from tests.chunks import chunks
from tests.pictures import encoded, photo
from tests.service.media.files import slow_tiff, unusual_jpeg
from tests.waiting import until

Result = TypeVar("Result")

NEEDS = (300, 200)
NO_POSES = Poses.empty(SKELETONS["coco-17"])
PNG, JPEG = encoded(photo(640, 480), "PNG"), encoded(photo(640, 480))


def run(
    scenario: Callable[[DecodeStage], Coroutine[Any, Any, Result]], *, cpu_seconds: int = 30, size: int = 2
) -> Result:
    """Run a scenario with a decode stage of two processes, of which a client may use one."""

    async def whole() -> Result:
        queues: list[Batcher[Any, Any]] = []

        def open_queue(work: Any, name: str, **options: Any) -> Batcher[Any, Any]:
            queues.append(Batcher(work, name=name, **options))
            return queues[-1]

        with DecoderPool(size, Bounds(cpu_seconds=cpu_seconds, wall_seconds=600)) as pool:
            decoder = DecodeStage(ImageLimits(), 2, open_queue, pool, share=0.5)
            for queue in queues:
                await queue.start()
            try:
                return await scenario(decoder)
            finally:
                for queue in queues:
                    await queue.close(1.0)

    return asyncio.run(whole())


@pytest.mark.parametrize("data", [PNG, JPEG, encoded(photo(640, 480), progressive=True)], ids=["PNG", "JPEG", "scans"])
@pytest.mark.parametrize("idle", [True, False])
def test_pixels_count_until_the_lease_is_released(data: bytes, idle: bool) -> None:
    memory = Quota("bytes", 1_000_000)

    async def scenario(decoder: DecodeStage) -> None:
        lease = memory.take("a", 0)
        image, _ = await decoder.decode(data, NEEDS, InferenceOptions(lease=lease), idle=idle)
        assert image.scale == 2
        assert memory.held == image.pixels.nbytes == 3 * 320 * 240
        await decoder.decode(data, NEEDS, InferenceOptions(lease=lease), idle=idle)
        assert memory.held == 2 * 3 * 320 * 240
        lease.release()
        assert memory.held == 0

    run(scenario)


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["PNG", "JPEG"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_picture_that_exceeds_the_memory_is_refused_and_the_next_one_is_not(data: bytes, whole: bool) -> None:
    memory = Quota("bytes", 240_000)

    async def scenario(decoder: DecodeStage) -> None:
        with memory.take("a", 20_000) as lease:
            with pytest.raises(QuotaExceededError):
                await decoder.decode(data, NEEDS, InferenceOptions(lease=lease), idle=False, whole=whole)
            assert memory.held == 20_000
            image, _ = await decoder.decode(
                encoded(photo(99, 99)), NEEDS, InferenceOptions(lease=lease), idle=False, whole=whole
            )
            assert image.width == 99

    run(scenario)


@pytest.mark.parametrize("data", [PNG, JPEG], ids=["PNG", "JPEG"])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_a_picture_is_drawn_on_pixels_that_were_decoded_once(data: bytes, media_type: str) -> None:
    memory = Quota("bytes", 100_000_000)

    async def scenario(decoder: DecodeStage) -> None:
        lease = memory.take("a", 0)
        options = InferenceOptions(lease=lease)
        image, _ = await decoder.decode(data, NEEDS, options, idle=True, whole=True)
        assert image.whole is not None
        assert image.whole.shape == (480, 640, 3)
        assert (image.pixels.shape, image.scale) == ((240, 320, 3), 2)
        assert memory.held >= 3 * image.whole.nbytes
        before = image.whole.astype(int)
        content, _ = await decoder.draw(image.whole, NO_POSES, media_type, options)
        assert memory.held == len(content)
        drawn = Image.open(io.BytesIO(content))
        assert drawn.get_format_mimetype() == media_type
        assert np.abs(np.asarray(drawn) - before).mean() < (1 if media_type == "image/png" else 6)

    run(scenario)


def test_a_cancelled_client_frees_its_process() -> None:
    async def scenario(decoder: DecodeStage) -> None:
        task = asyncio.create_task(decoder.decode(slow_tiff(), NEEDS, InferenceOptions(), idle=True))
        await until(lambda: decoder.processes.stats.running_batches == 1 and len(decoder.pool.pids) == 1)
        [pid] = decoder.pool.pids
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        next_image = asyncio.create_task(decoder.decode(PNG, NEEDS, InferenceOptions(), idle=True))
        await asyncio.sleep(0)
        assert decoder.processes.stats.running_batches == 1  # its slot is freed when the process has ended
        await next_image
        await until(lambda: decoder.processes.stats.running_batches == 0)
        assert pid not in decoder.pool.pids
        image, _ = await decoder.decode(PNG, NEEDS, InferenceOptions(), idle=True)
        assert image.width == 640

    run(scenario)


def test_a_deadline_frees_the_process_and_also_ends_waiting_images() -> None:
    async def scenario(decoder: DecodeStage) -> None:
        memory = Quota("bytes", 1_000_000)
        requests = [
            InferenceOptions(client="a", deadline=time.monotonic() + 0.5, lease=memory.take("a", 0)) for _ in range(4)
        ]
        ended = await asyncio.gather(
            *(decoder.decode(slow_tiff(), NEEDS, options, idle=True) for options in requests), return_exceptions=True
        )
        assert [type(error) for error in ended] == [DeadlineExceededError] * 4
        for options in requests:
            assert options.lease is not None
            options.lease.release()
        await until(lambda: decoder.processes.stats.running_batches == 0)
        assert memory.held == 0

    run(scenario)


def test_one_client_leaves_a_process_for_others_and_no_queue_hangs() -> None:
    async def scenario(decoder: DecodeStage) -> None:
        slow = [
            asyncio.create_task(decoder.decode(slow_tiff(), NEEDS, InferenceOptions(client="a"), idle=True))
            for _ in range(3)
        ]
        await until(lambda: decoder.processes.stats.running_batches == 1)
        for _ in range(3):
            image, _ = await decoder.decode(
                PNG, NEEDS, InferenceOptions(client="b", deadline=time.monotonic() + 60), idle=True
            )
            assert image.width == 640
            assert decoder.processes.stats.running_batches == 1
        assert decoder.processes.health.ok
        ended = await asyncio.gather(*slow, return_exceptions=True)
        assert [type(error) for error in ended] == [UndecodableImageError] * 3
        assert decoder.processes.health.ok

    run(scenario, cpu_seconds=1)


def test_the_video_of_one_client_leaves_threads_for_others() -> None:
    async def scenario(decoder: DecodeStage) -> None:
        [chunk] = [message[1:] for message in chunks("vp8", 1)]
        with ExitStack() as streams:

            def decode(client: str, stream: StreamDecoder) -> asyncio.Task[Any]:
                return asyncio.create_task(stream.decode([chunk], NEEDS, InferenceOptions(client=client)))

            own = [streams.enter_context(decoder.video.open("vp8", None)) for _ in range(4)]
            for stream in own[:2]:  # of four threads
                await decode("a", stream)
                assert stream.pid is not None
                os.kill(stream.pid, signal.SIGSTOP)
            frozen = [decode("a", stream) for stream in own[:3]]
            await until(lambda: decoder.video.batcher.stats.running_batches == 2)
            image, _ = await decode("b", own[3])
            assert image.width == 320
            assert (decoder.video.batcher.stats.running_batches, frozen[2].done()) == (2, False)
            for task in frozen:
                task.cancel()
            await asyncio.gather(*frozen, return_exceptions=True)

    run(scenario)


def test_a_stream_accepts_fewer_formats_than_a_request() -> None:
    async def scenario(decoder: DecodeStage) -> None:
        for kind in ("BMP", "TIFF"):
            with pytest.raises(NotAnImageError, match=rf"is a {kind} picture .* JPEG, PNG and WebP are accepted"):
                await decoder.decode(
                    encoded(photo(64, 64), kind), NEEDS, InferenceOptions(), idle=True, accepted=FRAMES
                )
        for kind in FRAMES:
            image, _ = await decoder.decode(
                encoded(photo(64, 64), kind), NEEDS, InferenceOptions(), idle=True, accepted=FRAMES
            )
            assert image.width == 64

    run(scenario)


def test_a_jpeg_that_turbojpeg_cannot_decode_goes_to_a_process() -> None:
    memory = Quota("bytes", 100_000)

    async def scenario(decoder: DecodeStage) -> None:
        with memory.take("a", 0) as lease:
            image, _ = await decoder.decode(unusual_jpeg(), NEEDS, InferenceOptions(lease=lease), idle=True)
            assert memory.held == image.pixels.nbytes == 3 * 64 * 96
        assert len(decoder.pool.pids) == 1
        assert np.abs(image.pixels.astype(int) - (200, 100, 50)).max() <= 3

    run(scenario)


@pytest.mark.parametrize("memory", [256_000_000, 512_000_000, 2_000_000_000, 24_000_000_000, 512_000_000_000])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_all_processes_together_fit_a_part_of_the_memory(memory: int, cores: int) -> None:
    with decoder_pool(ImageLimits(), memory, cores) as pool:
        assert 2 <= pool.size <= max(2, cores)
        assert pool.size * pool.bounds.memory <= 0.4 * memory


def test_two_gigabytes_suffice_to_decode_the_largest_png() -> None:
    limits = ImageLimits(max_bytes=32_000_000)
    bounds = decoder_pool(limits, 2 << 30, 2).bounds
    data = encoded(Image.new("RGBA", (5000, 5000), (10, 20, 30, 128)), "PNG")
    with DecoderPool(1, bounds) as pool:
        for needs in (NEEDS, None):
            assert pool.decode("PNG", data, limits, needs).width == 5000
