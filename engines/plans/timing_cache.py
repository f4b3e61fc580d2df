"""TensorRT's timing cache on disk: what one build has measured of a kernel, the next need not measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.locks import locked
from engines.plans.files import write_whole


def take_timings(config: Any, path: Path) -> None:
    """Let the build of this builder configuration start from what is known."""
    config.set_timing_cache(_read(config, path), False)


def keep_timings(config: Any, path: Path) -> None:
    """Keep what this build has measured, beside what others have measured meanwhile."""
    with locked(path.with_suffix(".timings-lock")):
        known = _read(config, path)
        known.combine(config.get_timing_cache(), True)
        write_whole(path, bytes(memoryview(known.serialize())))


def _read(config: Any, path: Path) -> Any:
    """A cache that TensorRT does not take (cut off, of another version) is none."""
    kept = path.read_bytes() if path.is_file() else b""
    return config.create_timing_cache(kept) or config.create_timing_cache(b"")
