"""A real Redis on the loopback, which tests can kill, stop and restart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.loopback import LoopbackProgram


class RedisProcess(LoopbackProgram):
    """`redis-server` on a free port, without files. A context manager. Skips the test if it is not installed."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("redis-server is not installed; apt-get install redis-server")
        super().__init__()
        self._folder = folder

    @property
    def url(self) -> str:
        """The URL for the setting redis_url."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [*command, "--dir", str(self._folder)]
