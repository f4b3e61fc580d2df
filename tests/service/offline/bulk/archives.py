"""Creates folders and archives to list, and reads listings."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

from service.offline.bulk.listing import Listing
from service.offline.bulk.sources import open_source

APART = Path("/nowhere")


def names(listing: Listing) -> list[str]:
    return [entry.name for entry in listing.entries]


def problems(listing: Listing) -> dict[str, str]:
    return {entry.name: entry.problem for entry in listing.entries if entry.problem}


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / os.fsdecode(name.encode())  # the names on the disk are UTF-8 in every locale
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def make_zip(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                name, data = member
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def read_all(listing: Listing, most: int = 1000) -> dict[str, bytes]:
    with closing(open_source(listing.kind, listing.root)) as source:
        return {entry.name: source.read(entry, most) for entry in listing.entries}


def read(listing: Listing, number: int) -> bytes:
    with closing(open_source(listing.kind, listing.root)) as source:
        return source.read(listing.entries[number], 1000)
