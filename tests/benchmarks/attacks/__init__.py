"""Attacks on a running server, and their effect on its other clients."""
