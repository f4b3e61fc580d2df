"""A client of Posewire that goes on whatever becomes of a server: another try, another replica, the same identities.

    from service.client import AsyncClient, Client

    with Client("http://localhost:8000") as client:
        people = client.pose(Path("photo.jpg")).people
        for result in client.stream(pictures):
            print([person.id for person in result.people])

Needs httpx and websockets, and nothing of the server's.
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
