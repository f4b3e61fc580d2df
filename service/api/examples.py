"""What /docs shows to be tried: every example works as it stands."""

from __future__ import annotations

import base64

import numpy as np

from service.media.pixels import encode

DESCRIPTION = """
Find the people in a picture:

    curl --data-binary @photo.jpg http://localhost:8000/pose

Draw them on it:

    curl --data-binary @photo.jpg -H 'Accept: image/jpeg' http://localhost:8000/pose -o drawn.jpg

Several pictures at once, of which a broken one spoils none:

    curl -F image=@photo.jpg -F image=@other.jpg http://localhost:8000/pose

Errors are problem documents (RFC 9457); `GET` on their `type` says what to do. Live video goes over `WS /stream`, of
which [a page of its own](docs/stream) tells.
"""


def json_body() -> dict[str, str]:
    """A body of POST /pose in JSON: a grey slope of 32 x 24 pixels, where nobody is."""
    slope = np.linspace(40, 220, 32, dtype=np.uint8)
    picture = np.broadcast_to(slope[None, :, None], (24, 32, 3))
    return {"image": base64.b64encode(encode(np.ascontiguousarray(picture), "image/png")).decode()}
