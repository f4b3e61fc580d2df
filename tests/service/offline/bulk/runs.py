"""Runs of `posewire batch` as processes, their archives, and ways to end them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.service.media.videos import make_video
from tests.waiting import wait_for

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: make extras")

KILLER = "killer.jpg"
KILLING = f"""
import os
opened = os.open
def deadly(path, *rest, **more):
    if os.path.basename(path) == {KILLER!r}:
        os.kill(os.getpid(), 9)
    return opened(path, *rest, **more)
os.open = deadly
"""
"""As sitecustomize.py: kills the process that opens the file, like a decoder's crash or a lack of memory."""
STILLBORN = """
import os, sys
if "--multiprocessing-fork" in sys.orig_argv:
    os.kill(os.getpid(), 9)
"""
"""As sitecustomize.py: worker processes die at their start."""


def make_archive(folder: Path, images: int, videos: int, frames: int) -> Path:
    """Create a folder `source` of small images, videos and a broken image, beside the catalogue of tiny models."""
    tiny_catalogue(folder)
    source = folder / "source"
    (source / "more").mkdir(parents=True)
    for n in range(images):
        place = source / "more" if n % 3 else source
        (place / f"{n:03}.jpg").write_bytes(encoded(photo(160, 120, seed=n)))
    for n in range(videos):
        make_video(source / f"{n}.mp4", frames)
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    (source / "notes.txt").write_text("not a picture, and not called one", "utf-8")
    return source


def start(catalogue: Path, *arguments: object, path: Path | None = None) -> subprocess.Popen[str]:
    """Start the command as a process. path: searched first for modules by all its processes."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    variables["POSEWIRE_CATALOGUE"] = str(catalogue)
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    command = [sys.executable, "-m", "service", "batch", *map(str, arguments), "--model", "pair", "--min-score", "0"]
    return subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, encoding="utf-8")


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code and the output."""
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def batch(catalogue: Path, *arguments: object, path: Path | None = None) -> tuple[int, str]:
    """Run the command to its end."""
    return finish(start(catalogue, *arguments, path=path))


def in_a_video(folder: Path) -> bool:
    """True if a run has processed a part of a video."""
    return any(journal.stat().st_size > 5000 for journal in folder.glob("parts/*.journal"))


def between_images(folder: Path) -> bool:
    """True if a run has done some of the images."""
    return any(folder.glob("parts/images-*.done"))


def end(process: subprocess.Popen[str], how: signal.Signals, once: Callable[[], bool]) -> str:
    """End a run once a condition holds. Returns its output when its workers have ended as well.

    Also ends Ray's own agents, which would run for some minutes more.
    """
    wait_for(lambda: process.poll() is not None or once(), timeout=120)
    family = descendants(process.pid)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    wait_for(lambda: not any(is_worker(pid) for pid in family), timeout=60)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return said


def is_worker(pid: int) -> bool:
    """True if the process exists and is a worker."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    return b"spawn_main" in command or b"ray::_Actor" in command


def descendants(pid: int) -> list[int]:
    """Return the child processes of a process, and their children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    children = [int(child) for child in listed.read_text(encoding="utf-8").split()] if listed.exists() else []
    return children + [below for child in children for below in descendants(child)]


def results(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder of results."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failed(folder: Path) -> dict[str, str]:
    """Return the problem of each file that failed."""
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / "failed.jsonl").read_text("utf-8").splitlines()
    ]
    assert all(row["why"] for row in rows)
    return {row["path"]: row["problem"] for row in rows}
