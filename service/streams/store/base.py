"""The contract of a store of stream states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StoredState:
    """A session's state after its result number `sequence`.

    generation: how often the session has changed hands. States of earlier generations are ignored, however late they
    arrive: a server that was suspended must not undo what its successor has done. data: packed, see `codec`.
    age: seconds since the frame that the state belongs to, not compared. There is no date: servers' clocks may differ.
    """

    generation: int
    sequence: int
    data: bytes
    age: float = field(default=0.0, compare=False)

    @property
    def order(self) -> tuple[int, int]:
        """Sort key of a session's states, oldest first."""
        return self.generation, self.sequence


class StoreAwayError(Exception):
    """The store cannot be reached now. reason: may be shown to clients and logged."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"what servers share cannot be reached now: {reason}")
        self.reason = reason


Lost = Callable[[str, int], None]
"""Called with a session that another server has claimed, and the last generation that has lost it."""


class Store(ABC):
    """Keeps a few kB for each session. shared: other servers can resume the sessions."""

    shared = False

    async def start(self, lost: Lost) -> None:  # noqa: B027
        """Start writing. Never fails: states are written once the store can be reached."""

    @abstractmethod
    def keep(self, session: str, state: StoredState, seconds: float) -> None:
        """Store a state for `seconds`, in place of an older one of the session. Returns at once."""

    @abstractmethod
    async def claim(self, session: str, seconds: float) -> StoredState | None:
        """Return the state under a new generation, so that earlier holders lose the session. None if there is no state.

        seconds: how long the state stays in the store. Raises StoreAwayError if the store cannot be reached, and
        StateError if the stored data is damaged.
        """

    @abstractmethod
    async def reap(self) -> int:
        """Remove expired states. Returns how many are left in this process."""

    async def flush(self, seconds: float) -> None:  # noqa: B027
        """Wait until all states are written, for `seconds` at most."""

    async def close(self) -> None:  # noqa: B027
        """Stop writing."""


class StoreObserver:
    """Receives the events of a shared store. The methods do nothing; subclasses override them."""

    def reached(self, up: bool) -> None:
        """The store was tried. up: it could be reached."""

    def wrote(self, outcome: str, states: int) -> None:
        """States were `kept`, `refused` because another server holds their session, or `failed` to be written."""

    def waiting(self, states: int) -> None:
        """The number of states that wait to be written has changed."""
