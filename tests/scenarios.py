"""Running scenarios, as coroutines, with a Serving in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from engines.catalogue import load
from service.config import Settings
from service.inference.model_registry import Serving, open_serving

Result = TypeVar("Result")


def serve(catalogue: Path, model: str) -> Serving:
    return open_serving(load([catalogue]), [model], Settings())


def run(serving: Serving, scenario: Coroutine[Any, Any, Result]) -> Result:
    async def whole() -> Result:
        await serving.start()
        try:
            return await scenario
        finally:
            await serving.close(5.0)

    return asyncio.run(whole())
