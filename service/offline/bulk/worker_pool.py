"""The worker processes of a batch, wherever they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from service.offline.bulk.shards import Summary
from service.offline.bulk.worker import Task


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker that died at its task. how: for the user. Another one is in its place."""

    how: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker that cannot work at all, as no other could either. why: for the user."""

    why: str


Outcome = Summary | Lost | Broken


class BulkWorkerPool(ABC):
    """So many workers, numbered from 0 on, each of which does one task at a time."""

    size: int

    @abstractmethod
    def give(self, worker: int, task: Task) -> None:
        """Let an idle worker begin."""

    @abstractmethod
    def wait(self, seconds: float) -> Mapping[int, Outcome]:
        """The workers that have ended their tasks, after at most so many seconds."""

    @abstractmethod
    def close(self) -> None:
        """End the workers at once, whatever they are doing."""
