"""What every kind of sink does."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from service.events.event import PublishedEvent


class SinkAwayError(Exception):
    """A sink takes nothing now. The message has no secrets. retry_after: seconds that it asks for."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Outcomes(Protocol):
    """Takes note of what became of each event of a batch. stopping: the sink should send no more of them."""

    @property
    def stopping(self) -> bool: ...

    def delivered(self, event: PublishedEvent) -> None:
        """The sink has the event."""

    def refused(self, event: PublishedEvent, why: str) -> bool:
        """The sink does not want this event. Returns True if it is given up: later ones of its source may be sent.

        If not, the batch ends for this source, and the event is tried again.
        """


class Sink(Protocol):
    """A sink, with the connections that it keeps. Everything can be cancelled at any time."""

    async def tend(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Called before each batch and about twice a second. states: of the sources that have changed; None: gone.

        Raises SinkAwayError; the same states are then given again.
        """

    async def send(self, events: Sequence[PublishedEvent], outcomes: Outcomes) -> None:
        """Send events, those of one source in their order. Raises SinkAwayError if some could not be sent."""

    async def close(self) -> None:
        """Close what is open."""


def trusted(certificate: Path | None) -> ssl.SSLContext:
    """Settings of TLS that trust one authority, by its PEM file, or else the system's. Raises SinkAwayError."""
    try:
        return ssl.create_default_context(cafile=certificate)
    except OSError as error:
        raise SinkAwayError(f"its `certificate` cannot be read: {problem(error)}") from None


def problem(error: BaseException) -> str:
    """Describe an error of a connection in words without its address, which may have secrets."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({cause.verify_message})"
        cause = cause.__cause__ or cause.__context__
    match error:
        case ConnectionRefusedError():
            return "it refuses connections"
        case TimeoutError():
            return "it did not answer in time"
        case ConnectionError() | EOFError():
            return "it closed the connection"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__
