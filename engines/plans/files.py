"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write the file at `path` so that whoever reads it finds the old one or the new one.

    What is left of a writer that was killed begins with a dot and the file's stem.
    """
    draft, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(draft)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
