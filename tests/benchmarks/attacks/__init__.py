"""Attacks on a running server, and what they do to its other clients."""
