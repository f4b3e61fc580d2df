"""Simulated control groups of a Linux machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def simulated_machine(root: Path, groups: str, files: Mapping[str, str]) -> Path:
    """A root folder with this /proc/self/cgroup and these files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups, "utf-8")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    return root
