"""TLS: a certificate that can be replaced while connections are open, and a timeout for handshakes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast

import uvloop

from service.config import Settings

_HANDSHAKE_S = 10.0
"""Timeout of a handshake, for which uvicorn allows a minute. Nothing counts the connection before it."""


class CertificateError(ValueError):
    """A certificate or key that cannot be used; the message names the file and says why."""


class ServerTls:
    """Makes the SSL context for a server's connections from its certificate files, and can reload them.

    Can be pickled for worker processes until `context` is called.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """key: None if the certificate's file contains it."""
        self._certificate = certificate
        self._key = key
        self._context: ssl.SSLContext | None = None

    @staticmethod
    def of(settings: Settings) -> ServerTls | None:
        """Return the TLS of these settings, or None without TLS. Raises CertificateError."""
        if settings.tls_certificate is None:
            if settings.tls_key is not None:
                raise CertificateError("tls_key needs a certificate; name one with tls_certificate")
            return None
        tls = ServerTls(settings.tls_certificate, settings.tls_key)
        tls._load(_context())
        return tls

    def context(self, *_: object) -> ssl.SSLContext:
        """Return the context for new connections. Raises CertificateError."""
        context = _context()
        self._load(context)
        self._context = context
        return context

    def reload(self) -> None:
        """Read the files again, for new connections. Open connections are not affected.

        Raises CertificateError if the files cannot be used, and keeps the old certificate.
        """
        self._load(_context())  # a key that does not match would leave the context in use without any
        if self._context is not None:
            self._load(self._context)

    def _load(self, context: ssl.SSLContext) -> None:
        for file in (self._certificate, self._key):
            try:
                if file is not None:
                    file.open("rb").close()
            except OSError as error:
                raise CertificateError(f"{file} cannot be read: {error.strerror}") from error
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except ssl.SSLError as error:
            key = self._key or self._certificate
            if error.reason == "KEY_VALUES_MISMATCH":
                raise CertificateError(
                    f"the key in {key} is not that of the certificate in {self._certificate}"
                ) from error
            raise CertificateError(f"{self._certificate} and {key} are no certificate and key in PEM") from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> str:
    raise CertificateError("tls_key has a passphrase, which nobody could enter; give a key without one")


class TlsLoop(uvloop.Loop):
    """uvloop, whose servers close connections that do not complete their TLS handshake in time."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", _HANDSHAKE_S)
        server = await super().create_server(*arguments, **options)
        return cast(asyncio.Server, server)  # uvloop's class, which has the same methods
