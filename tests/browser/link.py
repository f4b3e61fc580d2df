"""A link to a server that can be slow, and that breaks when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 1 << 16


class Link:
    """Forwards connections. port: of its own. delay: seconds that bytes take in each direction."""

    def __init__(self, target: int, delay: float) -> None:
        self.port = 0
        self.delay = delay
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break all connections, as if the network were gone for a moment."""
        for writer in self._open:
            writer.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of the browser."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """Break all connections, and wait until nothing is on its way."""
        self.cut()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            self._open -= {writer, back}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward bytes in one direction. Each piece leaves `delay` after it came, however many are on their way."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                time, data = await due.get()
                await asyncio.sleep(time - loop.time())
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                due.put_nowait((loop.time() + self.delay, data))
        due.put_nowait((loop.time() + self.delay, b""))
        with suppress(OSError):
            await delivering


@asynccontextmanager
async def link(target: int, delay: float = 0.0) -> AsyncIterator[Link]:
    """Open a link to a port of this machine."""
    opened = Link(target, delay)
    server = await asyncio.start_server(opened.accept, "127.0.0.1", 0)
    async with server:
        opened.port = server.sockets[0].getsockname()[1]
        yield opened
        server.close()
        await opened.close()
