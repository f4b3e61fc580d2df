"""Reading one source in a process of its own, until it has given frames or failed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from service.cameras.sources.address import SourceAddress, SourceOptions
from service.cameras.sources.decoding import SourceInfo
from service.cameras.sources.reader_process import FrameMessage, ReaderProcess, SourceEndedError, StatusMessage

PATIENCE_S = 120.0


@dataclass
class Reading:
    """What a source gave. reason: why it failed."""

    info: SourceInfo | None = None
    frames: list[FrameMessage] = field(default_factory=list)
    damaged: int = 0
    reason: str = ""


def read(source: str, frames: int = 1, options: SourceOptions | None = None) -> Reading:
    """Read until there are so many frames, or the source has ended."""
    reading = Reading()
    address = SourceAddress.parse(source)

    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S), ReaderProcess(address, options or SourceOptions()) as reader:
            reader.want_frame()
            while len(reading.frames) < frames:
                match await reader.receive():
                    case None:
                        return
                    case SourceInfo() as info:
                        reading.info = info
                    case StatusMessage(damaged=damaged):
                        reading.damaged = damaged
                    case FrameMessage() as frame:
                        reading.frames.append(frame)
                        reader.want_frame()

    try:
        asyncio.run(run())
    except SourceEndedError as error:
        reading.reason = address.redact(str(error))
    return reading
