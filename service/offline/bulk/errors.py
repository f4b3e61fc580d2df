"""Errors of a batch. Only BulkError stops it; problems of single files are listed in its results."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


class BulkError(Exception):
    """The batch cannot be done. The message is for the user."""


class UnreadableError(Exception):
    """A file of the source cannot be read. The message is for the list of failed files."""


class FailedError(Exception):
    """A file was read but could not be processed. The message is for the list of failed files."""


def unexpected(name: str, error: Exception) -> str:
    """Log an unexpected error of a library, and return a message for the list of failed files."""
    _log.error("%s: %s: %s", name, type(error).__name__, error)
    return f"an unexpected {type(error).__name__}; posewire batch has printed what it says"
