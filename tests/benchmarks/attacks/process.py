"""An attack in its own process, with a lower priority than the server."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Self

from tests.benchmarks.attacks.attacker import Attacker
from tests.benchmarks.attacks.listing import ATTACKS

_NICE = 10
_PREPARE_S = 120.0
_OVERTIME_S = 15.0


@dataclass(frozen=True, slots=True)
class Damage:
    """The results of an attack. outcomes: count of each status or other end. sent: bytes. cpu: of the attacker
    itself, seconds."""

    outcomes: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    cpu: float = 0.0


class AttackProcess:
    """An attack. A context manager: enter prepares it, exit ends it."""

    def __init__(self, name: str, host: str, port: int, seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._seconds = seconds
        self._process = context.Process(target=_run, args=(name, host, port, seconds, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        if not self._pipe.poll(_PREPARE_S):
            self._process.kill()
            raise RuntimeError("the attack did not get ready")
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def run(self) -> Damage:
        """Run the attack to its end. It is killed if it does not stop by itself."""
        self._pipe.send("go")
        stop = time.monotonic() + self._seconds + _OVERTIME_S
        if self._pipe.poll(max(0.0, stop - time.monotonic())):
            damage: Damage = self._pipe.recv()
            return damage
        return Damage(Counter({"the attack did not stop by itself": 1}))


def _run(name: str, host: str, port: int, seconds: float, pipe: Pipe) -> None:
    os.nice(_NICE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    began = 0.0

    def ready() -> None:
        nonlocal began
        pipe.send("ready")
        pipe.recv()
        began = time.process_time()

    attacker = Attacker(host, port, seconds, ready)
    ATTACKS[name].run(attacker)
    pipe.send(Damage(attacker.outcomes, attacker.sent, time.process_time() - began))
