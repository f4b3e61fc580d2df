"""What can be wrong with an image that a client sent. Every message says what was wrong and what to do."""

from __future__ import annotations


class ImageError(ValueError):
    """An image that cannot be used; the message is for the client."""


class ImageTooLargeError(ImageError):
    """More bytes or pixels than the limits allow (HTTP 413)."""


class NotAnImageError(ImageError):
    """Not a file of an accepted type (HTTP 415)."""


class UndecodableImageError(ImageError):
    """A file of an accepted type that is empty, truncated or corrupt (HTTP 400)."""


def truncated(kind: str, where: str) -> UndecodableImageError:
    """The error for a file of a `kind` that ends too early."""
    return UndecodableImageError(f"truncated {kind}: {where}; send the whole file")


def corrupt(kind: str, what: str) -> UndecodableImageError:
    """The error for a file of a `kind` that contradicts itself or its format."""
    return UndecodableImageError(f"corrupt {kind}: {what}; export it again")
