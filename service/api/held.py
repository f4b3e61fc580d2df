"""An answer that counts in the server's memory for as long as it is there."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.quota import Lease


class HeldResponse(Response):
    """Releases `lease` once the answer has been sent, or could not be."""

    def __init__(self, content: bytes, media_type: str, lease: Lease | None) -> None:
        super().__init__(content, media_type=media_type)
        self._lease = lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._lease is not None:
                self._lease.release()
