"""What is raised where a source cannot be read."""

from __future__ import annotations


class SourceError(Exception):
    """A source cannot be opened or read. The message says why; it may contain the source's URL."""
