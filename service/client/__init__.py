"""The Python client of Posewire. It retries requests, switches between replicas and keeps ids across reconnections.

    from posewire_client import AsyncClient, Client

    with Client("http://localhost:8000") as client:
        people = client.pose(Path("photo.jpg")).people
        for result in client.stream(pictures):
            print([person.id for person in result.people])
        for result in client.watch("door"):  # a camera that the server opens itself
            print([person.id for person in result.people])

The distribution `posewire-client` (see pyproject.toml here) has these files as the package `posewire_client`; in the
server they are `service.client`. So they import each other relatively, and otherwise only httpx and websockets, and for
streams of video av.
"""

from .clients import AsyncClient, Client
from .errors import ClientError, ProblemError, StreamEndedError, UnavailableError
from .results import Event, Gap, Keypoint, Person, PoseResult, StreamResult
from .stream import Stream
from .video import read_frames
from .watch import Watch

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Event",
    "Gap",
    "Keypoint",
    "Person",
    "PoseResult",
    "ProblemError",
    "Stream",
    "StreamEndedError",
    "StreamResult",
    "UnavailableError",
    "Watch",
    "read_frames",
]
