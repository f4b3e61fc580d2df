"""What a result says about its frame, encoded for messages."""

from __future__ import annotations

import time
from typing import Any

from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import Encoding, Hello, embed


def result_members(
    processed: ProcessedFrame, hello: Hello, encoding: Encoding
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the members of a result about its frame, and the seconds of each part of the work, this one included.

    The people are encoded already, see `embed`.
    """
    started = time.perf_counter()
    people = embed(processed.people_documents(extras=hello.extras), encoding)
    seconds = {**processed.seconds, "serialise": time.perf_counter() - started}
    members = {
        "width": processed.width,
        "height": processed.height,
        "people": people,
        **({"events": [event.document() for event in processed.events]} if hello.has_events else {}),
        **({} if processed.bodies is None else processed.bodies.frame_document()),
        "timing_ms": {part: round(1e3 * value, 3) for part, value in seconds.items()},
    }
    return members, seconds
