"""API keys and rate limits apply to streams. Keys are not accepted in URLs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api.security import digest
from tests.servers import ServerProcess
from tests.streaming import refusal, stream

KEY = "a-long-random-key"


@pytest.fixture(scope="module")
def guarded(catalogue: Path) -> Iterator[ServerProcess]:
    environment = {"api_keys": digest(KEY), "rate": 0.01, "burst": 4}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as running:
        yield running


def test_keys_and_rate_limits_apply_to_streams(guarded: ServerProcess, jpeg: bytes) -> None:
    async def welcomed(**options: Any) -> bool:
        async with stream(guarded.port, **options) as opened:
            return bool((await opened.ask(jpeg))["people"])

    for hello in ("{}", json.dumps({"key": "a guess"})):
        code, reason = asyncio.run(refusal(guarded.port, hello))
        assert code == 4401
        assert "API key" in reason
    asyncio.run(welcomed(headers={"Authorization": f"Bearer {KEY}"}))
    asyncio.run(welcomed(headers={"X-API-Key": KEY}))
    asyncio.run(welcomed(key=KEY))  # browsers cannot set headers
    asyncio.run(welcomed(key=KEY))
    code, reason = asyncio.run(refusal(guarded.port, json.dumps({"key": KEY})))
    assert code == 4429
    assert "requests a second" in reason
    code, reason = asyncio.run(refusal(guarded.port, "{}", path=f"/stream?key={KEY}"))
    assert code == 4422
    assert not any(KEY in line for line in guarded.log)
