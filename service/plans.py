"""TensorRT plans that are built while something slower serves their models, and take over when they are ready."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.build.manifest import Manifest, PlanError, PlanFile

logger = logging.getLogger(__name__)

_LEAVE_S = 5.0
"""How long a build that is no longer wanted may take to end."""


@dataclass(slots=True)
class PlanStatus:
    """What has become of a network's plan. share: of the building that is done, 0..1. detail: what is being done, or
    why it failed. manifest: of the plan, once it is ready.
    """

    state: Literal["building", "ready", "failed"] = "building"
    share: float = 0.0
    detail: str = "waiting"
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A plan to be built. name: of the catalogue's model. take_over: opens the plan and lets it serve; it may raise."""

    name: str
    precision: str
    max_batch: int
    status: PlanStatus
    take_over: Callable[[PlanFile], None]


class PlanBuilder:
    """Builds plans one after another, each in a process of its own, whose crash is not the server's.

    One thread, posewire-plans, which ends when all are built.
    """

    def __init__(self, tasks: Sequence[PlanTask]) -> None:
        self._tasks = tuple(tasks)
        self._thread = threading.Thread(target=self._work, name="posewire-plans")
        self._lock = threading.Lock()
        self._closed = False
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin, if there is anything to build."""
        if self._tasks:
            self._thread.start()

    def close(self) -> None:
        """End the build under way, which leaves nothing behind, and do not begin another."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        if self._thread.ident is not None:
            self._thread.join(_LEAVE_S)

    def _work(self) -> None:
        for task in self._tasks:
            started = time.monotonic()
            logger.info("the plan of %s is being built; something slower serves it meanwhile", task.name)
            try:
                plan = PlanFile.open(self._build(task))
                task.take_over(plan)
            except (PlanError, RuntimeError, ValueError, OSError) as error:
                if self._closed:
                    return
                task.status.state, task.status.detail = "failed", str(error)
                logger.error("the plan of %s failed, what serves it goes on: %s", task.name, error)
                continue
            status = task.status
            status.state, status.share, status.detail, status.manifest = "ready", 1.0, "", plan.manifest
            logger.info("the plan of %s serves from now on, after %.0f s", task.name, time.monotonic() - started)

    def _build(self, task: PlanTask) -> Path:
        """The plan's path. Raises PlanError with the reason where there is none."""
        command = [sys.executable, "-m", "engines.build", task.name, task.precision, str(task.max_batch)]
        with self._lock:
            if self._closed:
                raise PlanError("the server is closing")
            self._child = subprocess.Popen(  # noqa: S603 - a model's name, a precision and a number
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
            )
        said: dict[str, object] = {}
        tenth = 0
        with self._child as child:
            complaints = _Tail(child)
            for line in child.stdout or ():
                said = json.loads(line)
                task.status.share, task.status.detail = float(str(said.get("share", 1))), str(said.get("phase", ""))
                if int(task.status.share * 10) > tenth:
                    tenth = int(task.status.share * 10)
                    logger.info("the plan of %s: %d %% (%s)", task.name, tenth * 10, task.status.detail)
            last = complaints.last()
        if "plan" in said:
            return Path(str(said["plan"]))
        raise PlanError(str(said.get("error", f"its builder ended with status {child.returncode}: {last}")))


class _Tail:
    """Reads what a process complains of, so that it never waits to be read, and keeps the last line."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._line = ""
        self._child = child
        self._thread = threading.Thread(target=self._read, name="posewire-plans-stderr", daemon=True)
        self._thread.start()

    def last(self) -> str:
        """The last line, once the process has ended."""
        self._thread.join(_LEAVE_S)
        return self._line

    def _read(self) -> None:
        for line in self._child.stderr or ():
            self._line = line.strip() or self._line
