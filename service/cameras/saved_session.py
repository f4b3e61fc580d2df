"""The state of a camera between runs, restarts and replicas, packed for a `Store`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import ormsgpack

from service.tracking_workers.codec import StateError

_VERSION = 1
_MOST_CHARACTERS = 64

KEEP_S = 3600.0
"""How long a store keeps the state of a camera: as long as anybody can be remembered."""


def store_name(camera: str) -> str:
    """The name of a camera's session in a store of streams."""
    return f"camera:{camera}"


@dataclass(frozen=True, slots=True)
class SavedSession:
    """id: of the session, as ids of events contain it. fits: see `CameraEntry.fingerprint`. stream: see `codec`."""

    id: str
    fits: str
    stream: bytes

    @staticmethod
    def new(fits: str) -> SavedSession:
        return SavedSession(secrets.token_hex(8), fits, b"")

    def pack(self) -> bytes:
        return ormsgpack.packb([_VERSION, self.id, self.fits, self.stream])

    @staticmethod
    def unpack(data: bytes) -> SavedSession:
        """Raises StateError if the bytes are not the state of a camera."""
        try:
            match ormsgpack.unpackb(data):
                case [1, str(session), str(fits), bytes(stream)] if len(session + fits) <= 2 * _MOST_CHARACTERS:
                    return SavedSession(session, fits, stream)
        except ormsgpack.MsgpackDecodeError as error:
            raise StateError("the state of a camera is damaged") from error
        raise StateError("the state of a camera is of another version, or damaged")
