"""A real MQTT broker on the loopback, which tests can kill, stop and restart."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from tests.loopback import LoopbackProgram

_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin"


class Mosquitto(LoopbackProgram):
    """`mosquitto` on a free port. A context manager. Skips the test if it is not installed.

    lines: of its configuration, beside the listener. users: with their passwords; without them, everybody may connect.
    text: a configuration for port 1883, instead of all these.
    """

    def __init__(self, folder: Path, *lines: str, users: Mapping[str, str] | None = None, text: str = "") -> None:
        found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_PATH)
        if found is None:
            pytest.skip("mosquitto is not installed; apt-get install mosquitto")
        self._program = found
        super().__init__()
        self._configuration = folder / "mosquitto.conf"
        if text:
            text = text.replace("listener 1883", f"listener {self.port} 127.0.0.1")
            self._configuration.write_text(f"{text}\nuser root\n", "utf-8")
            return
        options = [f"listener {self.port} 127.0.0.1", "persistence false", "user root", *lines]
        if users:
            passwords = folder / "passwords"
            passwords.touch(0o600)
            for name, password in users.items():
                subprocess.run(["mosquitto_passwd", "-b", str(passwords), name, password], check=True)
            options.append(f"password_file {passwords}")
        options.append(f"allow_anonymous {'false' if users else 'true'}")
        self._configuration.write_text("\n".join(options) + "\n", "utf-8")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [self._program, "-c", str(self._configuration)]


class Subscriber:
    """Collects what is published: a client that is not ours. A context manager. topics: with wildcards.

    messages: (topic, payload), in their order; retained: the newest of each topic.
    """

    def __init__(self, port: int, topic: str = "#", *options: str) -> None:
        if shutil.which("mosquitto_sub") is None:
            pytest.skip("mosquitto_sub is not installed; apt-get install mosquitto-clients")
        where = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-V", "5", "-q", "1"]
        self._command = [*where, "-t", topic, "-F", "%t\t%r\t%p", *options]
        self.messages: list[tuple[str, str]] = []
        self.retained: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, encoding="utf-8")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def on(self, topic: str) -> list[dict[str, Any]]:
        """The JSON that was published on a topic."""
        return [json.loads(payload) for where, payload in list(self.messages) if where == topic]

    def last(self, topic: str) -> str | None:
        """The last payload on a topic."""
        return next((payload for where, payload in reversed(list(self.messages)) if where == topic), None)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                topic, retained, payload = line.rstrip("\n").split("\t", 2)
                self.messages.append((topic, payload))
                if retained == "1":
                    self.retained[topic] = payload
