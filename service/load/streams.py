"""Load of streams: several, each with so many frames a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from service.client import AsyncClient, ClientError
from service.load.samples import Samples

_LAST_S = 2.0
"""How long the last results may take."""
_WARM_S = 1.0
"""Frames of the first second are not counted: each stream begins with a run of the detector."""


async def stream_load(
    client: AsyncClient, pictures: Sequence[bytes], streams: int, fps: float, seconds: float, model: str | None
) -> Samples:
    """Send `fps` frames a second on each of `streams` streams for `seconds`, at fixed times.

    Latencies count from the time at which a frame was due. Frames without a result are counted as dropped.
    Raises ClientError if a stream cannot begin.
    """
    samples = Samples()
    async with asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(_stream(client, pictures, number / streams / fps, fps, seconds, model, samples))
    return samples


async def _stream(
    client: AsyncClient,
    pictures: Sequence[bytes],
    offset: float,
    fps: float,
    seconds: float,
    model: str | None,
    samples: Samples,
) -> None:
    hello = {} if model is None else {"model": model}
    loop = asyncio.get_running_loop()
    async with client.stream(**hello) as stream:
        # The timestamp of a frame is the time at which it was due, on the clock of `epoch + loop.time()`.
        epoch = time.time() - loop.time()
        begin = loop.time() + offset
        counted = int(seconds * fps)
        first = int(_WARM_S * fps)
        got = 0

        async def send() -> None:
            for number in range(first + counted):
                due = begin + number / fps
                if (pause := due - loop.time()) > 0:
                    await asyncio.sleep(pause)
                samples.late.append(max(0.0, loop.time() - due))
                await stream.send(pictures[number % len(pictures)], 1e3 * (epoch + due))
            stream.finish()

        sending = asyncio.create_task(send())
        try:
            async with asyncio.timeout_at(begin + _WARM_S + seconds + _LAST_S):
                async for result in stream:
                    if result.frame < first or result.timestamp is None:
                        continue
                    if result.problem:
                        samples.statuses[0] += 1
                    else:
                        samples.add(epoch + loop.time() - result.timestamp / 1e3, result.timing_ms)
                    got += 1
        except TimeoutError:
            pass  # what has no result counts as dropped
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        samples.dropped += max(0, counted - got)


def first_error(group: BaseExceptionGroup[BaseException]) -> ClientError | OSError | None:
    """The first error of the client or the network in a group of errors, or None."""
    found, _ = group.split((ClientError, OSError))
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]  # type: ignore[assignment]
    return found if isinstance(found, (ClientError, OSError)) else None
