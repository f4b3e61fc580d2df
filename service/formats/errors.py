"""What can be wrong with a file of poses."""

from __future__ import annotations


class FormatError(ValueError):
    """A file that cannot be read; the message says where, what is wrong and what is expected."""
