"""Watches a camera: takes its frames with their people, and hands each to all outputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import cache

from service.cameras.camera import Camera, CameraState
from service.media.scene import draw_scene
from service.tracking.zones import Line, Zone
from service.watching.frames import WatchedFrame, Watcher
from service.watching.outputs import Output, Printer
from service.watching.window import WindowClosedError


class Watching:
    """One run over one camera. frames: results so far. ids: of the people who were seen.

    printer: takes changes of the camera's state as well. zones, lines: to draw. say: called with a line for the user.
    """

    def __init__(
        self,
        printer: Printer,
        outputs: Sequence[Output] = (),
        *,
        zones: tuple[Zone, ...] = (),
        lines: tuple[Line, ...] = (),
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.frames = 0
        self.ids: set[int] = set()
        self._printer = printer
        self._outputs = (printer, *outputs)
        self._zones = zones
        self._lines = lines
        self.say = say
        # One thread: outputs need not be safe for several, and their order is that of the results.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="posewire-output")

    @property
    def outcome(self) -> str:
        """What was seen, as a line for the user."""
        return f"{self.frames} frames, {len(self.ids)} people"

    def changed(self, state: CameraState) -> None:
        """Report a new state of the camera."""
        self._pool.submit(self._printer.change, state, time.time())
        match state.phase:
            case "live" if state.info is not None:
                rate = f", {state.info.rate:.3g} frames/s" if state.info.rate else ""
                self.say(f"connected: {state.info.width} x {state.info.height}, {state.info.codec}{rate}")
            case "lost":
                self.say(f"no connection: {state.reason}; trying again in {state.retry_in:.1f} s")

    async def run(self, camera: Camera, watcher: Watcher) -> None:
        """Watch until the camera ends, the user closes the window, or this is cancelled; then finish the outputs.

        Raises CameraError, and the errors of the watcher and the outputs.
        """
        loop = asyncio.get_running_loop()
        try:
            with suppress(WindowClosedError):
                writing = loop.create_future()
                writing.set_result(None)
                async with camera, aclosing(watcher.watch(camera)) as results:
                    async for watched in results:
                        await writing  # the next frame is looked at while this one is drawn and written
                        writing = loop.run_in_executor(self._pool, self._write, watched)
                await writing
        finally:
            try:
                await loop.run_in_executor(self._pool, self._close)
            finally:
                self._pool.shutdown(wait=False)

    def _write(self, watched: WatchedFrame) -> None:
        self.frames += 1
        if watched.people.ids is not None:
            self.ids |= set(watched.people.ids[watched.people.ids >= 0].tolist())
        drawn = cache(lambda: draw_scene(watched.frame.pixels, watched.people, self._zones, self._lines))
        for output in self._outputs:
            output.write(watched, drawn)

    def _close(self) -> None:
        for output in self._outputs:
            output.close()
