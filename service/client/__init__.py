"""The Python client of Posewire. It retries requests, switches between replicas and keeps ids across reconnections.

    from service.client import AsyncClient, Client

    with Client("http://localhost:8000") as client:
        people = client.pose(Path("photo.jpg")).people
        for result in client.stream(pictures):
            print([person.id for person in result.people])

Imports nothing else of the server. Needs httpx and websockets, and two decoders of messages: orjson for JSON and
ormsgpack for MessagePack. It does not need numpy.
"""

from service.client.clients import AsyncClient, Client
from service.client.errors import ClientError, ProblemError, StreamEndedError, UnavailableError
from service.client.results import Event, Gap, Keypoint, Person, PoseResult, StreamResult
from service.client.stream import Stream

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
]
