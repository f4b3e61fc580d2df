"""The client's exceptions."""

from __future__ import annotations


class ClientError(Exception):
    """Base class of the client's exceptions."""


class ProblemError(ClientError):
    """The server rejected the request (RFC 9457), and would do so again. kind: such as `undecodable-image`, or ""."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(f"{status} {kind}: {detail}" if kind else f"{status}: {detail}")
        self.status = status
        self.kind = kind
        self.detail = detail


class UnavailableError(ClientError):
    """No server answered in time. The message names the result of the last attempt."""


class StreamEndedError(ClientError):
    """The server ended a stream permanently. code: the websocket's close code, see GET /docs/stream."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server has ended the stream: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


def unreadable(error: Exception) -> ClientError:
    """Return the error of a message that is not Posewire's. error: that of reading it."""
    return ClientError(f"the server has sent what this client cannot read: {error!r}")
