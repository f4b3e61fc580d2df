"""Child processes that end when the process that started them has ended, however it did."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from multiprocessing import parent_process

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent process `parent` has ended.

    Works on Linux. Elsewhere it does nothing, and the child has to notice a closed pipe or socket.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def end_with_parent(timeout: float) -> None:
    """Have this worker process shut down, as after SIGTERM, when its supervisor has ended.

    If the shutdown takes longer than `timeout` seconds, the process exits. Does nothing in a process that
    multiprocessing has not started.
    """
    supervisor = parent_process()
    if supervisor is None:
        return

    def watch() -> None:
        supervisor.join()  # waits on a pipe that the supervisor holds open as long as it lives
        log.error("the supervisor is gone, and this worker ends")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(timeout)
        os._exit(1)

    threading.Thread(target=watch, name="posewire-supervisor", daemon=True).start()
