"""The file of the options --zones: zones, lines and rules as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engines.files import read_small, shown, without_mark

if TYPE_CHECKING:
    from service.streams.protocol import Hello

_LARGEST_ZONES = 64_000


def read_zones(path: Path | None) -> Hello:
    """Read zones, lines and rules from a JSON file. Raises ValueError with a message for the user."""
    from service.api.hello import HelloMessage
    from service.streams.protocol import Hello, StreamError

    if path is None:
        return Hello()
    try:
        text = without_mark(read_small(path, _LARGEST_ZONES)).decode()
        document = json.loads(text)
        if not isinstance(document, dict) or not document.keys() <= {"zones", "lines", "rules"}:
            raise ValueError("it must be an object with zones, lines, rules, or several of them")
        return HelloMessage.read(text).checked()
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except StreamError as error:
        raise ValueError(f"{shown(path)}: {error.reason}") from error
    except ValueError as error:
        raise ValueError(f"{shown(path)}: {error}") from error
