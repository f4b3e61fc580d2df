"""Builds TensorRT plans while a slower runtime serves their models; each plan is used as soon as it is ready."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from engines.plans.manifest import Manifest, PlanError, PlanFile

logger = logging.getLogger(__name__)

_END_S = 5.0
"""How long a build that is cancelled may take to end."""
_TAIL_BYTES = 4096
"""How many bytes at the end of a builder's stderr are searched for its last line."""


@dataclass(slots=True)
class PlanStatus:
    """The state of a network's plan.

    share: the part of the build that is done, 0..1. detail: the current phase, or the reason of a failure. manifest: of
    the plan, once it is ready.
    """

    state: Literal["building", "ready", "failed"] = "building"
    share: float = 0.0
    detail: str = "waiting"
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A plan to build. name: of the catalogue's model. take_over: opens the plan and lets it serve; it may raise."""

    name: str
    precision: str
    max_batch: int
    status: PlanStatus
    take_over: Callable[[PlanFile], None]


class PlanBuilder:
    """Builds plans one after another, each in a separate process, so that a crash does not affect the server.

    One thread, posewire-plans, which ends when all plans are built. However it ends, no task stays in "building".
    """

    def __init__(self, tasks: Sequence[PlanTask]) -> None:
        self._tasks = tuple(tasks)
        self._thread = threading.Thread(target=self._build_all, name="posewire-plans")
        self._lock = threading.Lock()
        self._closed = False
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start building, if there is anything to build."""
        if not self._tasks:
            return
        try:
            self._thread.start()
        except (RuntimeError, MemoryError) as error:  # "can't start new thread"; the graphs serve without plans
            self._fail_unbuilt(f"no thread could be started to build it: {error}")

    def close(self) -> None:
        """Kill the current build, which leaves no files behind, and start no further ones."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()
        if self._thread.ident is not None:
            self._thread.join(_END_S)

    def _build_all(self) -> None:
        try:
            for task in self._tasks:
                self._run(task)
        except BaseException:
            logger.exception("building plans has failed")
        finally:
            self._fail_unbuilt("what builds plans has ended; the log says why")

    def _run(self, task: PlanTask) -> None:
        started = time.monotonic()
        logger.info("the plan of %s is being built; something slower serves it meanwhile", task.name)
        try:
            plan = PlanFile.open(self._build(task))
            task.take_over(plan)
        except Exception as error:
            if self._closed:
                return
            task.status.state, task.status.detail = "failed", str(error) or type(error).__name__
            expected = isinstance(error, PlanError | RuntimeError | ValueError | OSError)
            logger.error(
                "the plan of %s failed, what serves it goes on: %s",
                task.name,
                task.status.detail,
                exc_info=None if expected else error,
            )
            return
        status = task.status
        status.state, status.share, status.detail, status.manifest = "ready", 1.0, "", plan.manifest
        logger.info("the plan of %s serves from now on, after %.0f s", task.name, time.monotonic() - started)

    def _fail_unbuilt(self, why: str) -> None:
        for task in self._tasks:
            if task.status.state == "building" and not self._closed:
                task.status.state, task.status.detail = "failed", why
                logger.error("the plan of %s is not built, what serves it goes on: %s", task.name, why)

    def _build(self, task: PlanTask) -> Path:
        """Build a plan in a child process. Returns its path. Raises PlanError with the reason of a failure."""
        command = [sys.executable, "-m", "engines.build", task.name, task.precision, str(task.max_batch)]
        with tempfile.TemporaryFile() as stderr:
            with self._lock:
                if self._closed:
                    raise PlanError("the server is closing")
                self._child = subprocess.Popen(  # noqa: S603 - a model's name, a precision and a number
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    encoding="utf-8",
                    errors="replace",
                )
            with self._child as child:
                try:
                    message = self._follow(task, child)
                except BaseException:
                    child.kill()
                    raise
            if "plan" in message:
                return Path(str(message["plan"]))
            why = f"its builder ended with status {child.returncode}: {_last_line(stderr)}"
            raise PlanError(str(message.get("error", why)))

    def _follow(self, task: PlanTask, child: subprocess.Popen[str]) -> dict[str, object]:
        """Read a builder's progress messages until its output ends. Returns the last message."""
        message: dict[str, object] = {}
        tenth = 0
        for line in child.stdout or ():
            message = json.loads(line)
            task.status.share, task.status.detail = float(str(message.get("share", 1))), str(message.get("phase", ""))
            if int(task.status.share * 10) > tenth:
                tenth = int(task.status.share * 10)
                logger.info("the plan of %s: %d %% (%s)", task.name, tenth * 10, task.status.detail)
        return message


def _last_line(file: BinaryIO) -> str:
    """The last line of a file that is not empty."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
