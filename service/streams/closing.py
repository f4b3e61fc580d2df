"""Why the server ends a stream."""

from __future__ import annotations

from enum import IntEnum

_LONGEST_REASON = 123
"""Bytes; RFC 6455, section 5.5: what a control frame has beside the code."""


class CloseCode(IntEnum):
    """Codes of RFC 6455 where one fits, else 4000 and the HTTP status that means the same.

    `GET /docs/stream` says what each tells a client to do.
    """

    GOING_AWAY = 1001
    NOT_TEXT = 1007
    TOO_LARGE = 1009
    FAILED = 1011
    RESTARTING = 1012
    TRY_LATER = 1013
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    UNKNOWN_MODEL = 4404
    SILENT = 4408
    REPLACED = 4409
    GONE = 4410
    BAD_FRAMES = 4415
    BAD_HELLO = 4422
    RATE_LIMITED = 4429


class StreamError(Exception):
    """Ends a stream. reason: for the client; cut to what a close frame holds."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason.encode(errors="replace")[:_LONGEST_REASON].decode(errors="ignore")
        super().__init__(f"{int(code)}: {self.reason}")
