"""How a batch goes, for whoever watches: bars on a terminal, a line for each shard anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.offline.bulk.shards import Mark, Shard, Summary

_BAR = 24
_LONGEST_NAME = 32
_MOST_BARS = 16


@dataclass(slots=True)
class BulkProgress:
    """Tells of so many shards of the results in `folder`, of which some are `done` already.

    say: writes to the user. terminal: can draw bars.
    """

    folder: Path
    shards: int
    done: int
    say: Callable[[str], None]
    terminal: bool
    _drawn: int = field(default=0, init=False)

    def working(self, under_way: Sequence[Shard]) -> None:
        """Draw a bar for each shard under way."""
        if not self.terminal:
            return
        lines = [bar(shard, Mark.read(shard.mark(self.folder))) for shard in under_way[:_MOST_BARS]]
        self._clear()
        self.say("".join(f"{line}\x1b[K\n" for line in [*lines, f"{self.done} of {self.shards} shards"]))
        self._drawn = len(lines) + 1

    def finished(self, shard: Shard, summary: Summary) -> None:
        """See Watcher."""
        self.done += 1
        what = f"{summary.frames} frames" if shard.video else f"{summary.images} images"
        failed = f", {len(summary.failures)} failed" if summary.failures else ""
        self._line(f"{self.done} of {self.shards}: {shard.name}: {what}, {summary.people} people{failed}")

    def lost(self, shard: Shard, how: str) -> None:
        """See Watcher."""
        self._line(f"a worker died at {shard.name} ({how}); another one does it again")

    def end(self) -> None:
        """Take the bars away."""
        self._clear()

    def _line(self, text: str) -> None:
        self._clear()
        self.say(text + "\n")

    def _clear(self) -> None:
        if self._drawn:
            self.say(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0


def bar(shard: Shard, mark: Mark | None) -> str:
    """A line that says how much of a shard is done."""
    name = shard.name[-_LONGEST_NAME:]
    if mark is None:
        return f"{name:<{_LONGEST_NAME}} begins"
    share = min(1.0, mark.done / mark.of) if mark.of else 0.0
    filled = round(share * _BAR)
    return f"{name:<{_LONGEST_NAME}} [{'#' * filled}{'-' * (_BAR - filled)}] {mark.done}/{mark.of or '?'}"
