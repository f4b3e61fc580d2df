"""What a client raises."""

from __future__ import annotations


class ClientError(Exception):
    """Any of the errors here."""


class ProblemError(ClientError):
    """The server has refused what was asked, and would again: RFC 9457. kind: as `undecodable-image`, or empty."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}" if kind else f"{status}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail


class UnavailableError(ClientError):
    """No server has answered in time, however often it was tried; the message says what the last try came to."""


class StreamEndedError(ClientError):
    """The server has ended a stream for good. code: of the websocket; GET /docs/stream says what each means."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server has ended the stream: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason
