"""Coroutines that run side by side until the first of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def race(*parts: Awaitable[object]) -> None:
    """Run all parts until one ends, then cancel the others and wait for their end. Raises what the first has raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        await task
