"""What stops a whole batch; what is wrong with one file never does."""

from __future__ import annotations


class BulkError(Exception):
    """A batch that cannot be done; the message is for the user."""


class UnreadableError(Exception):
    """An entry of the source that cannot be read; the message is for the list of failed files."""


class FailedError(Exception):
    """An entry that was read but could not be done; the message is for the list of failed files."""
