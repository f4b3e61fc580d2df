"""The video jobs in a folder: SQLite has a row for each, which survives kill -9, and each has a folder for its files.

Several processes may use the folder at once. One of them runs the jobs, see `VideoJobs`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, Literal

from engines.locks import is_locked, lock
from service.offline.jobs.job import (
    ABOUT,
    DRAWN,
    POSES,
    SOURCE,
    UPLOAD,
    DiskFullError,
    JobLimits,
    JobProblem,
    State,
    VideoJob,
)
from service.quota import QuotaExceededError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replica (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, name TEXT NOT NULL DEFAULT '', suffix TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL,
    skeleton TEXT NOT NULL, min_score REAL NOT NULL, max_people INTEGER NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, frames_done INTEGER NOT NULL DEFAULT 0, frames_total INTEGER,
    fps REAL, problem TEXT, bytes INTEGER NOT NULL, starts INTEGER NOT NULL DEFAULT 0
);
"""
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
"""Suffixes that a video's file keeps; FFmpeg recognises some formats by them."""
_MOST_STARTS = 3
"""After a server has ended this many times while it worked on a video, the video is taken to be the reason."""
_WAIT_S = 30.0
"""How long a statement may wait for those of other processes, which take milliseconds."""
_ORPHAN_S = 600.0
"""Age from which a folder without a row is removed. Its row is written a moment after the folder."""
_RESERVE = 200_000_000
"""Bytes of the disk that are left free."""
_RETRY_S = 60.0


class JobStore:
    """The jobs of a folder. Methods block; they are called on one thread at a time. replica: the folder's own name,
    with which the ids of its jobs begin.

    Raises OSError if the folder cannot be used; methods OSError and sqlite3.Error, and DiskFullError if it is full.
    """

    def __init__(self, folder: Path, limits: JobLimits, *, clock: Callable[[], float] = time.time) -> None:
        self._files = folder / "videos"
        self._limits = limits
        self._clock = clock
        self._files.mkdir(parents=True, exist_ok=True)
        try:
            self.replica = self._open(folder / "videos.sqlite")
        except sqlite3.Error as error:
            raise OSError(f"the database in {folder} cannot be used: {error}") from error

    def _open(self, path: Path) -> str:
        """Open the database, and return the folder's name."""
        self._base = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        self._base.row_factory = sqlite3.Row
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.executescript(_SCHEMA)
        with self._changing():
            found = self._base.execute("SELECT name FROM replica").fetchone()
            name: str = found["name"] if found else secrets.token_hex(4)
            if not found:
                self._base.execute("INSERT INTO replica VALUES (?)", (name,))
        return name

    def close(self) -> None:
        self._base.close()

    def folder(self, job: str) -> Path:
        """The folder of a job's files."""
        return self._files / job

    def create(self, client: str, about: Mapping[str, object], size: int) -> tuple[str, int]:
        """Add a job whose video is being uploaded. size: bytes that it is known to have.

        about: model, skeleton, min_score and max_people. Returns its id, and a descriptor of the file to
        write the video to, UPLOAD in its folder. When the descriptor is closed in another way than by `JobStore.queue`,
        also because the process has ended, the job and its files are removed. Raises QuotaExceededError.
        """
        job = f"{self.replica}-{secrets.token_hex(16)}"
        self.folder(job).mkdir()
        upload = lock(self.folder(job) / UPLOAD)  # before there is a row, which `sweep` would find without it
        try:
            with self._changing():
                self._check("video jobs", "sum(state != 'deleted')", client, 1, self._limits.jobs)
                self._check_bytes(client, size)
                columns = {"id": job, "client": client, "state": "uploading", "created": self._clock(), "bytes": size}
                columns |= about
                marks = ", ".join(f":{name}" for name in columns)
                self._base.execute(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", columns)  # noqa: S608
        except BaseException:
            os.close(upload)
            shutil.rmtree(self.folder(job), ignore_errors=True)
            raise
        return job, upload

    def queue(self, job: str, name: str, size: int) -> VideoJob | None:
        """Let a job wait for its turn, as its video of `size` bytes has been uploaded. Returns None if it is gone."""
        suffix = PurePath(name).suffix.lower()
        suffix = suffix if _SUFFIX.fullmatch(suffix) else ""
        folder = self.folder(job)
        (folder / UPLOAD).rename(folder / f"{SOURCE}{suffix}")
        self.change(job, "uploading", state="queued", name=name, suffix=suffix, bytes=size)
        return self.get(job)

    def grow(self, job: str, size: int) -> None:
        """Set the bytes of a job's files, `size`. Raises QuotaExceededError; KeyError if the job is gone."""
        with self._changing():
            row = self._base.execute("SELECT client, bytes FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:
                raise KeyError(job)
            if size > row["bytes"]:
                self._check_bytes(row["client"], size - row["bytes"])
            self._base.execute("UPDATE jobs SET bytes = ? WHERE id = ?", (size, job))

    def change(self, job: str, before: State, /, **columns: object) -> bool:
        """Change columns of a job in the state `before`. Returns False if it is in another one, or gone."""
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        statement = f"UPDATE jobs SET {assignments} WHERE id = :id AND state = :before"  # noqa: S608 - own names
        with self._changing():
            return self._base.execute(statement, {**columns, "id": job, "before": before}).rowcount > 0

    def end(self, job: str, state: Literal["done", "failed"], problem: JobProblem | None) -> None:
        """End a running job, unless it has been deleted. Files that are not results are removed."""
        said = None if problem is None else json.dumps([problem.kind, problem.detail])
        folder = self.folder(job)
        for path in list(folder.iterdir()):
            if state == "failed" or path.name not in (POSES, DRAWN, ABOUT):
                path.unlink()
        size = size_of(folder)
        self.change(job, "running", state=state, problem=said, ended=self._clock(), bytes=size)
        if state == "done":  # the number of frames in a header is approximate
            self.change(job, "done", frames_total=getattr(self.get(job), "frames_done", 0))

    def get(self, job: str) -> VideoJob | None:
        """Return a job, unless it is deleted or still being uploaded."""
        return next(self._jobs("id = ? AND state NOT IN ('uploading', 'deleted')", job), None)

    def of(self, client: str) -> list[VideoJob]:
        """Return the jobs of a client, the newest first."""
        return list(self._jobs("client = ? AND state NOT IN ('uploading', 'deleted') ORDER BY created DESC", client))

    def all(self) -> list[VideoJob]:
        """Return the jobs of all clients, the newest first."""
        return list(self._jobs("state NOT IN ('uploading', 'deleted') ORDER BY created DESC"))

    def delete(self, job: str) -> None:
        """Delete a job. If it is running, its files are removed when the process that works on it has ended."""
        for state in ("uploading", "queued", "done", "failed"):
            if self.change(job, state, state="deleted"):
                self._purge(job)
                return
        self.change(job, "running", state="deleted")

    def claim(self) -> VideoJob | None:
        """Start the next job: of the client whose last job was started first, the oldest. None if none waits."""
        last = "SELECT max(started) FROM jobs AS other WHERE other.client = jobs.client"
        job = next(self._jobs(f"state = 'queued' ORDER BY ({last}) NULLS FIRST, created LIMIT 1"), None)
        if job is None:
            return None
        now, starts = self._clock(), job.starts + 1
        claimed = self.change(job.id, "queued", state="running", started=now, frames_done=0, fps=None, starts=starts)
        return self.get(job.id) if claimed else None

    def release(self, job: str) -> None:
        """Put a job back into the queue, because the server shuts down."""
        row = self.get(job)
        if row is not None:
            self.change(job, "running", state="queued", starts=row.starts - 1)

    def recover(self) -> None:
        """Put the jobs back into the queue during which a server was killed. No process may work on a job."""
        for job in list(self._jobs("state = 'running'")):
            if job.starts < _MOST_STARTS:
                self.change(job.id, "running", state="queued")
            else:
                why = f"the server ended {job.starts} times while it worked on this video"
                self.end(job.id, "failed", JobProblem("internal", why))

    def sweep(self, running: str = "") -> None:
        """Remove old jobs, deleted ones, uploads whose process has ended, and folders without a job. running: a job
        whose files are in use.
        """
        for job in list(self._jobs("ended < ?", self._clock() - self._limits.seconds)):
            self.delete(job.id)
        for job in list(self._jobs("state IN ('deleted', 'uploading')")):
            if job.id != running and (job.state == "deleted" or not is_locked(self.folder(job.id) / UPLOAD)):
                self._purge(job.id)
        known = {job.id for job in self._jobs("1")}
        for folder in self._files.iterdir():
            with suppress(FileNotFoundError):
                if folder.name not in known and time.time() - folder.stat().st_mtime > _ORPHAN_S:
                    shutil.rmtree(folder, ignore_errors=True)

    def totals(self) -> tuple[dict[str, int], int]:
        """Return the number of jobs by state, and the bytes of all of them."""
        rows = self._base.execute("SELECT state, count(*) AS jobs, sum(bytes) AS bytes FROM jobs GROUP BY state")
        counted = [(row["state"], row["jobs"], row["bytes"]) for row in rows]
        return {state: jobs for state, jobs, _ in counted}, sum(size for *_, size in counted)

    def _purge(self, job: str) -> None:
        shutil.rmtree(self.folder(job), ignore_errors=True)
        if not self.folder(job).exists():
            with self._changing():
                self._base.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def _jobs(self, where: str, *values: object) -> Iterator[VideoJob]:
        for row in self._base.execute(f"SELECT * FROM jobs WHERE {where}", values):  # noqa: S608 - own texts
            columns: dict[str, Any] = dict(row)
            said = columns["problem"]
            columns["problem"] = None if said is None else JobProblem(*json.loads(said))
            yield VideoJob(**columns)

    def _check_bytes(self, client: str, size: int) -> None:
        self._check("bytes of video jobs", "sum(bytes)", client, size, self._limits.bytes)
        if shutil.disk_usage(self._files).free < size + _RESERVE:
            raise DiskFullError("the server's disk has no room for this video; try again later")

    def _check(self, what: str, measure: str, client: str, amount: int, total: int) -> None:
        """Raise QuotaExceededError if `amount` more exceeds the limit of all clients, or of one."""
        share = max(1, int(total * self._limits.share))
        statement = f"SELECT {measure}, {measure} FILTER (WHERE client = ?) FROM jobs"  # noqa: S608 - own texts
        held, own = (value or 0 for value in self._base.execute(statement, (client,)).fetchone())
        if held + amount > total:
            text = f"{held:,} of {total:,} {what} are taken, {amount:,} more do not fit"
            raise QuotaExceededError(text, reason="full", retry_after_s=_RETRY_S)
        if own + amount > share:
            text = f"one client may have {share:,} {what}, this would be {own + amount:,}; delete some"
            raise QuotaExceededError(text, reason="share", retry_after_s=_RETRY_S)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes from changing anything. All changes inside are made, or none."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._base.in_transaction:  # some errors end it
                    self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise DiskFullError("the server's disk is full; try again later") from error


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder."""
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # it was removed a moment ago
            total += path.stat().st_size
    return total
