"""The server's own TLS: a certificate that can be replaced while connections are open."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.config import Settings


class CertificateError(ValueError):
    """A certificate or key that cannot be used; the message names the file and says why."""


class ServerTls:
    """Makes the context of a server's connections from the files that the settings name, and reads them again.

    An object of it can be pickled before `context` is called, for worker processes.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """key: None where the file of the certificate has it too."""
        self._certificate = certificate
        self._key = key
        self._context: ssl.SSLContext | None = None

    @staticmethod
    def of(settings: Settings) -> ServerTls | None:
        """As the settings say; None for a server without TLS. Raises CertificateError."""
        if settings.tls_certificate is None:
            if settings.tls_key is not None:
                raise CertificateError("tls_key needs a certificate; name one with tls_certificate")
            return None
        tls = ServerTls(settings.tls_certificate, settings.tls_key)
        tls._load(_context())
        return tls

    def context(self, *_: object) -> ssl.SSLContext:
        """The context for new connections. Raises CertificateError."""
        context = _context()
        self._load(context)
        self._context = context
        return context

    def reload(self) -> None:
        """Use what the files hold now for new connections; those that are open stay as they are.

        Raises CertificateError and goes on with the last ones.
        """
        self._load(_context())  # a key that does not fit would leave the context in use without any
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
