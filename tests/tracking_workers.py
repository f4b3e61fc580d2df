"""Tracking workers for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.tracking_workers.pool import TrackingWorkers


@asynccontextmanager
async def tracking_workers(processes: int = 1, hang_after: float = 30.0) -> AsyncIterator[TrackingWorkers]:
    """Up to four streams in each process, with frames of up to 4 million pixels."""
    workers = TrackingWorkers(processes, streams=4, frame_bytes=12_000_000, hang_after=hang_after)
    try:
        yield workers
    finally:
        await workers.close()
