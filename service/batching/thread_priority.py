"""The scheduling priority of worker threads."""

from __future__ import annotations

import logging
import os
import sys
import threading

logger = logging.getLogger(__name__)

_NICE = 5
"""Gives a thread a third of the processor time of one without, where both want it."""
_LOWEST = 19


class LowPriority:
    """Lowers the priority of the calling thread below the event loop's, which must accept and refuse work in time.

    The nice value is relative to the process' main thread, so a thread that replaces another gets the same one. Where
    the system denies the change, the thread keeps its priority and a warning is logged once.
    """

    def __init__(self, name: str) -> None:
        """name: of the queue that the threads serve, for the log."""
        self._name = name
        self._denied = False

    def apply(self) -> None:
        """Change the calling thread's priority. Does nothing on systems whose threads have no priority of their own."""
        if sys.platform != "linux":
            return
        try:
            main = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(main + _NICE, _LOWEST))
        except OSError as error:  # seccomp filters and security modules may deny it
            if not self._denied:
                self._denied = True
                logger.warning(
                    "the threads of %s keep the event loop's priority, lowering it is denied: %s", self._name, error
                )
