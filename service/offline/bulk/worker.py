"""The worker of a batch. It processes shards one after the other, in a local process or in a Ray actor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engines.catalogue import CatalogueError, FetchError, UnknownModelError, load
from engines.files import published, shown
from service.batching import Priority, run_in_lockstep
from service.config import Settings
from service.inference.model_registry import image_limits, open_serving
from service.inference.pipeline import Estimate
from service.inference.stage import InferenceOptions
from service.media.image_files import ImageError, ImageTooLargeError, NotAnImageError
from service.offline.bulk.errors import BulkError, FailedError, UnreadableError, unexpected
from service.offline.bulk.listing import Kind, SourceFile
from service.offline.bulk.manifest import GROUP, BulkOptions, agree, cannot_write
from service.offline.bulk.shards import Failure, Mark, Shard, Summary, digest_of
from service.offline.bulk.sources import open_source
from service.offline.bulk.writing import image_lines
from service.offline.journal import DamagedJournalError, JournalError

_PROBLEMS: Sequence[tuple[type[BaseException], str]] = (
    (UnreadableError, "unreadable"),
    (ImageTooLargeError, "too-large"),
    (NotAnImageError, "not-an-image"),
    (ImageError, "undecodable"),
    (FailedError, "failed"),
)


@dataclass(frozen=True, slots=True)
class BulkJob:
    """The settings that all shards share. kind, root: of the source. folder: the folder of results."""

    kind: Kind
    root: Path
    folder: Path
    model: str
    options: BulkOptions


@dataclass(frozen=True, slots=True)
class Task:
    """A shard to process. without: numbers of entries that killed workers. alone: numbers of entries that a worker was
    processing when it died. These are first tried one by one, to find the one that kills workers.
    """

    shard: Shard
    without: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()


class ShardWorker:
    """Keeps source and model open for as long as the process lives. Not thread-safe.

    Raises BulkError if either cannot be opened.
    """

    def __init__(self, job: BulkJob) -> None:
        self._job = job
        options = job.options
        settings = Settings(**dict(options.settings))  # type: ignore[arg-type]  # they come from a Settings object
        try:
            self._source = open_source(job.kind, job.root)
            self._serving = open_serving(load(), [job.model], settings, repeatable=True)
        except UnreadableError as error:
            raise BulkError(f"{shown(job.root)} {error}") from error
        except CatalogueError as error:
            raise BulkError(str(error)) from error
        except (FetchError, UnknownModelError, RuntimeError, ValueError) as error:
            raise BulkError(f"model {job.model}: {error}") from error
        with _writing(job.folder):
            agree(job.folder, self._serving.runtimes)
        self._most_bytes = image_limits(settings).max_bytes
        self._inference_options = InferenceOptions(
            priority=Priority.BULK, min_score=options.min_score, max_people=options.max_people, admitted=True
        )
        self._runner = asyncio.Runner()
        self._runner.run(self._serving.start())

    def do(self, task: Task) -> Summary:
        """Process a shard, then publish its result and its summary. Raises BulkError if these cannot be written."""
        shard, folder = task.shard, self._job.folder
        with _writing(folder):
            shard.result(folder, self._job.options.style).unlink(missing_ok=True)
            summary = self._runner.run(self._video(task) if shard.video else self._images(task))
            summary = replace(summary, sha256=digest_of(shard.result(folder, self._job.options.style)))
            summary.write(shard.file(folder, ".done"))
            shard.file(folder, ".journal").unlink(missing_ok=True)
        return summary

    async def _images(self, task: Task) -> Summary:
        shard, folder, style = task.shard, self._job.folder, self._job.options.style
        people, of = 0, len(shard.entries)
        failures = []
        with published(shard.result(folder, style)) as part, part.open("w", encoding="utf-8", newline="\n") as out:
            for start in range(0, of, GROUP):
                group = shard.entries[start : start + GROUP]
                able = [e for e in group if _known_failure(e, task) is None]
                for entry in (e for e in able if e.number in task.alone):
                    self._mark(shard, [entry], start, of)
                    await run_in_lockstep([self._estimate(entry)])
                self._mark(shard, able, start, of)
                found = await run_in_lockstep([self._estimate(entry) for entry in able])
                outcomes = dict(zip((entry.number for entry in able), found, strict=True))
                for entry in group:
                    outcome = outcomes.get(entry.number)
                    if isinstance(outcome, Estimate):
                        people += len(outcome.poses)
                        out.write(image_lines(entry, outcome, style))
                    else:
                        failures.append(_known_failure(entry, task) or _failure(entry, outcome))
        return Summary(of, 0, people, tuple(failures))

    async def _estimate(self, entry: SourceFile) -> Estimate:
        data = self._source.read(entry, self._most_bytes)
        return await self._serving.default.pipeline.image(data, self._inference_options)

    async def _video(self, task: Task) -> Summary:
        from service.media.media_file import VideoError  # with PyAV, which images do not need
        from service.offline.bulk.video_shard import track

        shard, folder = task.shard, self._job.folder
        [entry] = shard.entries
        if known := _known_failure(entry, task):
            return Summary(failures=(known,))
        self._mark(shard, [entry], 0, 0)
        path = Path(entry.name)
        step = partial(self._mark, shard, [entry])
        try:
            with self._source.file(entry, shard.file(folder, ".scratch")) as path:
                try:
                    summary = await track(path, shard, folder, self._serving.default, self._job.options, step)
                except DamagedJournalError:
                    shard.file(folder, ".journal").unlink(missing_ok=True)
                    summary = await track(path, shard, folder, self._serving.default, self._job.options, step)
        except VideoError as error:
            summary = Summary(failures=(Failure(entry.name, "unreadable", str(error)),))
        except (UnreadableError, FailedError) as error:
            summary = Summary(failures=(_failure(entry, error),))
        return replace(summary, failures=tuple(_renamed(failure, path) for failure in summary.failures))

    def _mark(self, shard: Shard, at: Sequence[SourceFile], done: int, of: int) -> None:
        """Tell what this process is about to do, in case it dies."""
        Mark(tuple(entry.number for entry in at), done, of).write(shard.file(self._job.folder, ".at"), durable=False)


def _renamed(failure: Failure, path: Path) -> Failure:
    """Replace the path of the file in a failure's message by the entry's name."""
    return replace(failure, why=failure.why.replace(str(path), failure.path).replace(shown(path), failure.path))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of writing into BulkError."""
    try:
        yield
    except OSError as error:
        raise BulkError(cannot_write(error, folder)) from error
    except JournalError as error:
        raise BulkError(str(error)) from error


def _known_failure(entry: SourceFile, task: Task) -> Failure | None:
    """The failure of an entry that is known before it is processed."""
    if entry.problem:
        return Failure(entry.name, "unreadable", entry.problem)
    if entry.number in task.without:
        return Failure(entry.name, "killed-worker", "two worker processes died while they were at it")
    return None


def _failure(entry: SourceFile, error: BaseException | None) -> Failure:
    """Convert an error to a failure. Raises errors that are not the entry's fault, such as KeyboardInterrupt."""
    if not isinstance(error, Exception):
        raise error or AssertionError(f"{entry.name} has no outcome")
    for kind, problem in _PROBLEMS:
        if isinstance(error, kind):
            return Failure(entry.name, problem, str(error))
    return Failure(entry.name, "failed", unexpected(entry.name, error))
