"""TensorRT's timing cache on disk, so that a build reuses the kernel timings of earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.files import write_atomically
from engines.locks import locked


def take_timings(config: Any, path: Path) -> None:
    """Load the timings at `path` into a builder configuration before its build."""
    config.set_timing_cache(_read(config, path), False)


def keep_timings(config: Any, path: Path) -> None:
    """Merge the timings of a finished build into the file at `path`, which other builds may have extended since."""
    with locked(path.with_suffix(".timings-lock")):
        known = _read(config, path)
        known.combine(config.get_timing_cache(), True)
        write_atomically(path, bytes(memoryview(known.serialize())))


def _read(config: Any, path: Path) -> Any:
    """The cache at `path`, or an empty one if TensorRT rejects it (truncated, of another version)."""
    kept = path.read_bytes() if path.is_file() else b""
    return config.create_timing_cache(kept) or config.create_timing_cache(b"")
