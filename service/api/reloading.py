"""SIGHUP: API keys and certificates are read again, and no connection is dropped for it."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.api.security import ApiKeys
from service.api.state import ServerState
from service.process.supervisor import Supervisor
from service.process.tls import CertificateError, ServerTls

log = logging.getLogger(__name__)


@contextmanager
def reloading(state: ServerState, supervisor: Supervisor, tls: ServerTls | None) -> Iterator[None]:
    """Read the files anew at each SIGHUP, for as long as the context lasts. Afterwards the signal does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only: this is a server inside of a test
        return
    loop = asyncio.get_running_loop()

    def reload() -> None:
        supervisor.once("reload", _reload(state, tls))

    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def _reload(state: ServerState, tls: ServerTls | None) -> None:
    """Read keys and certificates. Those that cannot be read stay as they are."""
    settings = state.settings
    if settings.api_keys_file is not None:
        try:
            keys = await asyncio.to_thread(ApiKeys.read, settings.api_keys, settings.api_keys_file)
            if state.keys.digests and not keys.digests:
                raise ValueError(f"{settings.api_keys_file} has no keys, which would let everybody in")
        except (OSError, ValueError) as error:
            log.error("the API keys stay as they were: %s", error)
        else:
            state.keys = keys
            ended = state.streams.end_unauthorized(keys.admits)
            log.info("%d API keys are accepted now, %d streams were ended", len(keys.digests), ended)
    if tls is not None:
        try:
            await asyncio.to_thread(tls.reload)
        except CertificateError as error:
            log.error("the certificate stays as it was: %s", error)
        else:
            log.info("new connections get the certificate in %s", settings.tls_certificate)
