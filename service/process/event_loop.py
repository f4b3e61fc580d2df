"""The event loop of a server that speaks TLS."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvloop

_HANDSHAKE_S = 10.0
"""A connection takes a descriptor before anything counts it; uvicorn would leave it a minute for its handshake."""


class TlsLoop(uvloop.Loop):
    """uvloop, whose servers close connections that do not complete their TLS handshake in time."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """See `asyncio.loop.create_server`."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", _HANDSHAKE_S)
        server = await super().create_server(*arguments, **options)
        return cast(asyncio.Server, server)  # uvloop's own, which has the same methods
