"""Processes that follow streams, for as long as a test needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.tracking_workers.pool import TrackingWorkers


@asynccontextmanager
async def followers(processes: int = 1, hang_after: float = 30.0) -> AsyncIterator[TrackingWorkers]:
    """Room for four streams in each process, with frames of up to 4 million pixels."""
    following = TrackingWorkers(processes, streams=4, frame_bytes=12_000_000, hang_after=hang_after)
    try:
        yield following
    finally:
        await following.close()
