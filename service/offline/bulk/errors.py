"""What stops a whole batch; what is wrong with one file never does."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class BulkError(Exception):
    """A batch that cannot be done; the message is for the user."""


class UnreadableError(Exception):
    """An entry of the source that cannot be read; the message is for the list of failed files."""


class FailedError(Exception):
    """An entry that was read but could not be done; the message is for the list of failed files."""


def unexpected(name: str, error: Exception) -> str:
    """Why `name` could not be done, where a library fails in a way that nobody expected. What it says is printed."""
    _log.error("%s: %s: %s", name, type(error).__name__, error)
    return f"an unexpected {type(error).__name__}; posewire batch has printed what it says"
