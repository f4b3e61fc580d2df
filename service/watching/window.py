"""A window that shows pictures, by Tk: the OpenCV that Posewire installs has none."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from engines.poses import Frame
from service.watching.frames import WatchedFrame
from service.watching.outputs import fitted

if TYPE_CHECKING:
    import tkinter

_LARGEST = 1280, 800


class WindowError(Exception):
    """There can be no window. The message says why, and what to do."""


class WindowClosedError(Exception):
    """The user has closed the window."""


def check_display() -> None:
    """Raise WindowError if this machine cannot show a window."""
    try:
        import tkinter  # noqa: F401
    except ImportError as error:
        raise WindowError("--show needs Python's tkinter (apt-get install python3-tk); or use --record") from error
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise WindowError("--show needs a display, and DISPLAY is not set; record with --record, or use ssh -X")


class PictureWindow:
    """Shows the newest picture. title: of the window. Escape, q or the window's button close it.

    Tk belongs to the thread that opens it: the first `write` opens it, and the same thread calls the other methods.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._root: tkinter.Tk | None = None
        self._label: tkinter.Label | None = None
        self._image: tkinter.PhotoImage | None = None
        self._closed = False

    def write(self, watched: WatchedFrame, drawn: Callable[[], Frame]) -> None:  # noqa: ARG002
        """See Output. Raises WindowError, and WindowClosedError once the user has closed the window."""
        import tkinter

        pixels = _reduced(drawn())
        height, width = pixels.shape[:2]
        try:
            if self._root is None or self._label is None:
                self._root, self._label = self._open()
            self._image = tkinter.PhotoImage(
                data=b"P6 %d %d 255\n" % (width, height) + pixels.tobytes(), format="PPM", master=self._root
            )
            self._label.configure(image=self._image)
            self._root.update()
        except tkinter.TclError as error:
            raise WindowError(f"the window cannot be shown: {error}") from error
        if self._closed:
            raise WindowClosedError

    def close(self) -> None:
        """See Output."""
        if self._root is None:
            return
        self._root.destroy()
        self._root = self._label = self._image = None
        gc.collect()  # Tk's objects refer to each other, and Tcl aborts if another thread frees them

    def _open(self) -> tuple[tkinter.Tk, tkinter.Label]:
        import tkinter

        root = tkinter.Tk()
        root.title(self._title)
        root.protocol("WM_DELETE_WINDOW", self._leave)
        for key in ("<Escape>", "q"):
            root.bind(key, lambda _: self._leave())
        label = tkinter.Label(root, borderwidth=0)
        label.pack()
        return root, label

    def _leave(self) -> None:
        self._closed = True


def _reduced(pixels: Frame) -> Frame:
    """Shrink a picture that would not fit a screen."""
    scale = min(1.0, _LARGEST[0] / pixels.shape[1], _LARGEST[1] / pixels.shape[0])
    if scale == 1.0:
        return pixels
    return fitted(pixels, round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
