"""Memory limits of server processes: a control group if possible, otherwise their resident memory is only measured."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import IO, Protocol, Self

_ROOT = Path("/sys/fs/cgroup")
_NUMBERS = count(1)


class MemoryGroup(Protocol):
    """A set of processes whose memory is limited and measured. A context manager, which removes it at its end."""

    kind: str
    """A description of the limit."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def prefix(self) -> list[str]:
        """The prefix of a command that starts it inside the group."""
        ...

    def attach(self, pid: int) -> None:
        """Set the first process, for groups that cannot find it themselves."""

    def pids(self) -> list[int]:
        """The processes in the group now."""
        ...

    def usage(self) -> int:
        """Bytes in use, without files in the kernel's cache."""
        ...

    def peak(self) -> int:
        """The kernel's own record of the most bytes in use since `reset`, caches included; 0 if it keeps none."""
        ...

    def reset(self) -> None:
        """Reset the peak, if the kernel supports that."""

    def kills(self) -> int:
        """The number of the group's processes that the OOM killer has ended."""
        ...


def memory_group(limit: int) -> MemoryGroup:
    """Create a group with a limit in bytes: cgroup v1, cgroup v2, or without a real limit if neither is available."""
    name = f"posewire-bench-{os.getpid()}-{next(_NUMBERS)}"
    for kind, parent in ((_Version1, _ROOT / "memory"), (_Version2, _ROOT)):
        _sweep(parent)
        with suppress(OSError):
            return kind(parent / name, limit)
    return _Unlimited()


def _sweep(parent: Path) -> None:
    """Remove the groups of killed runs, unless they have running processes."""
    for group in parent.glob("posewire-bench-*"):
        if not Path(f"/proc/{group.name.split('-')[2]}").exists():
            with suppress(OSError):
                group.rmdir()


class _Group:
    """The common part of both versions of cgroups."""

    kind = ""

    def __init__(self, folder: Path, limit_file: str, limit: int) -> None:
        folder.mkdir()
        self.folder = folder
        try:
            (folder / limit_file).write_text(str(limit), "utf-8")
        except OSError:
            folder.rmdir()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a process that has not ended still uses it
            self.folder.rmdir()

    @property
    def prefix(self) -> list[str]:
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")]

    def attach(self, pid: int) -> None:
        """Do nothing: the prefix starts it in the group."""

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text("utf-8").split()]

    def _number(self, file: str, key: str = "") -> int:
        text = (self.folder / file).read_text("utf-8")
        if not key:
            return int(text)
        return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == key), 0)


class _Version1(_Group):
    kind = "cgroup v1"

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__(folder, "memory.limit_in_bytes", limit)

    def usage(self) -> int:
        return self._number("memory.usage_in_bytes") - self._number("memory.stat", "total_inactive_file")

    def peak(self) -> int:
        return self._number("memory.max_usage_in_bytes")

    def reset(self) -> None:
        (self.folder / "memory.max_usage_in_bytes").write_text("0", "utf-8")

    def kills(self) -> int:
        return self._number("memory.oom_control", "oom_kill")


class _Version2(_Group):
    kind = "cgroup v2"

    def __init__(self, folder: Path, limit: int) -> None:
        controllers = folder.parent / "cgroup.subtree_control"
        if "memory" not in controllers.read_text("utf-8").split():
            controllers.write_text("+memory", "utf-8")  # refused if the parent group has its own processes
        super().__init__(folder, "memory.max", limit)
        with suppress(OSError):
            (folder / "memory.swap.max").write_text("0", "utf-8")
        self._peak: IO[str] | None = None
        with suppress(OSError):  # Linux 6.12 and later: each open file has its own peak
            self._peak = (folder / "memory.peak").open("r+")

    def __exit__(self, *_: object) -> None:
        if self._peak is not None:
            self._peak.close()
        super().__exit__()

    def usage(self) -> int:
        return self._number("memory.current") - self._number("memory.stat", "inactive_file")

    def peak(self) -> int:
        if self._peak is None:
            return 0
        self._peak.seek(0)
        return int(self._peak.read())

    def reset(self) -> None:
        if self._peak is not None:
            self._peak.write("reset")
            self._peak.flush()

    def kills(self) -> int:
        return self._number("memory.events", "oom_kill")


class _Unlimited:
    """Without cgroups: measures the resident memory of a process and its children, without a limit."""

    kind = "no cgroup could be made: resident memory is watched, and not limited"

    def __init__(self) -> None:
        self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def prefix(self) -> list[str]:
        return []

    def attach(self, pid: int) -> None:
        self._first = pid

    def pids(self) -> list[int]:
        found = [self._first]
        for pid in found:
            with suppress(OSError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    found += [int(child) for child in children.read_text("utf-8").split()]
        return found

    def usage(self) -> int:
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")

    def peak(self) -> int:
        return 0

    def reset(self) -> None:
        pass

    def kills(self) -> int:
        return 0
