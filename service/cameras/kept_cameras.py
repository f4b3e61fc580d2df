"""The cameras that the API has added, and which cameras are paused, in a file: both survive a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from engines.files import published
from service.cameras.entry import CameraEntry, CameraName
from service.streams.options import complaint

log = logging.getLogger(__name__)

_NAMES = TypeAdapter(CameraName)


class KeptCameras:
    """A file, which its owner alone may read: it has the sources. Methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[dict[str, CameraEntry], frozenset[str]]:
        """Return the cameras and the names of those that are paused. What is damaged is logged and left out."""
        try:
            document = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}, frozenset()
        except (OSError, ValueError) as error:
            log.error("the cameras in %s are lost: %s", self._path, error)
            return {}, frozenset()
        entries = {}
        for name, entry in _mapping(document, "cameras").items():
            try:
                entries[_NAMES.validate_python(name)] = CameraEntry.model_validate(entry)
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False, include_context=False)[0]
                place = ".".join(map(str, first["loc"]))
                log.error("the camera %s in %s is left out: %s: %s", name[:64], self._path, place, complaint(first))
        return entries, frozenset(_mapping(document, "paused"))

    def save(self, entries: Mapping[str, CameraEntry], paused: Iterable[str]) -> None:
        """Raises OSError."""
        cameras = {name: entry.document(secret=True) for name, entry in entries.items()}
        data = orjson.dumps({"cameras": cameras, "paused": dict.fromkeys(paused, True)}, option=orjson.OPT_INDENT_2)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            published(self._path, unique=False) as part,
            os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file,
        ):
            file.write(data)


def _mapping(document: object, name: str) -> dict[str, Any]:
    found = document.get(name) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}
