"""A Redis that the tests of a module share."""

from __future__ import annotations

from tests.service.streams.store.conftest import mortal, redis

__all__ = ["mortal", "redis"]
