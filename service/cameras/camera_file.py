"""The file that the setting `cameras` names: the server's cameras as TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.cameras.entry import CameraEntry, CameraName
from service.events.entries import EventSettings, JournalEntry, SinkEntry, SinkName
from service.streams.options import complaint

_MOST_COMPLAINTS = 8


class CameraFileError(ValueError):
    """The file cannot be used. The message is for the user: it names the file, the camera and the member, no secret."""


class CameraFile(BaseModel):
    """The tables of the file. Sinks of events, and their journal, are tables of it, too."""

    model_config = ConfigDict(extra="forbid")

    cameras: dict[CameraName, CameraEntry] = {}
    events: JournalEntry = JournalEntry()
    sinks: dict[SinkName, SinkEntry] = {}

    @property
    def event_settings(self) -> EventSettings:
        return EventSettings(events=self.events, sinks=self.sinks)

    @staticmethod
    def read(path: Path, most: int) -> CameraFile:
        """most: cameras that the file may have. Raises CameraFileError."""
        try:
            found = CameraFile.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
        except OSError as error:
            raise CameraFileError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise CameraFileError(f"{path}: {_explain(error)}") from None  # the cause has the sources
        except RecursionError:
            raise CameraFileError(f"{path} is no TOML: it is nested too deep") from None
        except ValueError as error:  # no TOML, or no UTF-8
            raise CameraFileError(f"{path} is no TOML: {error}") from None
        if len(found.cameras) > most:
            raise CameraFileError(f"{path} has {len(found.cameras)} cameras; max_cameras allows {most}")
        return found


def _explain(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    places = []
    for one in errors[:_MOST_COMPLAINTS]:
        *where, last = map(str, one["loc"])
        if last == "[key]":
            text = "a name has a-z, 0-9, - and _, begins with a letter or digit, and is 64 characters long at most"
            places.append(f"{'.'.join(where)[:100]}: {text}")
        else:
            places.append(f"{'.'.join([*where, last])[:200]}: {complaint(one)}")
    more = len(errors) - _MOST_COMPLAINTS
    return "; ".join([*places, *([f"and {more} more"] if more > 0 else [])])
