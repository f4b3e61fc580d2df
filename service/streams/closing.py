"""Why the server ends a stream: the close codes and what each tells a client to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

_LONGEST_REASON = 123
"""Bytes; RFC 6455, section 5.5: what a control frame has beside the code."""


class CloseCode(IntEnum):
    """Codes of RFC 6455 where one fits, else 4000 and the HTTP status that means the same."""

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


MEANINGS: Mapping[CloseCode, str] = MappingProxyType(
    {
        CloseCode.GOING_AWAY: "The server goes down in good order. Connect again with the last token.",
        CloseCode.NOT_TEXT: "A text message is not UTF-8.",
        CloseCode.TOO_LARGE: "A message is larger than this server takes. Send smaller frames.",
        CloseCode.FAILED: "The server failed, or its pings were not answered. Connect again with the last token.",
        CloseCode.RESTARTING: "The server was stopped at once. Connect again with the last token.",
        CloseCode.TRY_LATER: "No stream can begin here now. Try another server, or this one later.",
        CloseCode.BAD_MESSAGE: "A message is not what the protocol has in its place; the reason says which.",
        CloseCode.UNAUTHORIZED: "An API key is needed: in a header or in the hello.",
        CloseCode.UNKNOWN_MODEL: "The model is not served here; the reason says which are.",
        CloseCode.SILENT: "Nothing came for a long time. Connect again with the last token.",
        CloseCode.REPLACED: "Another connection has taken this session over with its token. Do not reconnect.",
        CloseCode.GONE: "Results were neither read nor acknowledged for a long time.",
        CloseCode.BAD_FRAMES: "Five frames in a row were no pictures; each had its error message.",
        CloseCode.BAD_HELLO: "The hello is wrong; the reason names the field.",
        CloseCode.RATE_LIMITED: "Too many streams were begun. Wait before the next.",
    }
)


class StreamError(Exception):
    """Ends a stream. reason: for the client; cut to what a close frame holds."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{int(code)}: {reason}")
        self.code = code
        self.reason = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
