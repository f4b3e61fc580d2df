"""What is kept of streams for who goes on with them: the contract of a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Kept:
    """A session's state as of its result number `sequence`.

    generation: how often the session has changed hands. What an earlier holder says of it counts no more, however late
    it says so: a server that was stopped for a while must not undo what another has seen since.
    age: seconds since the frame that the state is as of. Servers' clocks may differ, so no date is kept. Not compared.
    """

    generation: int
    sequence: int
    data: bytes
    age: float = field(default=0.0, compare=False)

    @property
    def order(self) -> tuple[int, int]:
        """What is newer has more."""
        return self.generation, self.sequence


class StoreAwayError(Exception):
    """The store cannot be asked now. reason: what is wrong with it, in words that may be shown and logged."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"what servers share cannot be reached now: {reason}")
        self.reason = reason


Lost = Callable[[str, int], None]
"""Told of a session, and of the generation up to which its holders have lost it to another server."""


class Store(Protocol):
    """Keeps a few kB for each session. shared: whether other servers can go on with what is kept here."""

    shared: bool

    async def start(self, lost: Lost) -> None:
        """Begin to write. Never fails: a store that is away is written to once it is back."""

    def keep(self, session: str, kept: Kept, seconds: float) -> None:
        """Keep a state for so long, in place of an older one of the session. Returns at once."""

    async def claim(self, session: str, seconds: float) -> Kept | None:
        """The state, under a generation of its own; earlier holders have lost the session. None where there is none.

        seconds: how long it is kept on, where it is. Raises StoreAwayError where it may be kept but not be had, and
        StateError where what is stored is damaged.
        """

    async def reap(self) -> int:
        """Forget what has expired. Returns how many states are left here."""

    async def flush(self, seconds: float) -> None:
        """Return once all is written that was to be kept, or after `seconds`."""

    async def close(self) -> None:
        """Stop writing."""
