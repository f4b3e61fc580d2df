"""Resume tokens: which session, as of which result; signed and dated, so that nobody can make or keep one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner

SESSION_BYTES = 12
_PURPOSE = b"posewire resume token"
_SEQUENCE = struct.Struct(">Q")


class TokenError(Exception):
    """A token that opens nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token says. sequence: of the session's results, the one that the token came with."""

    session: str
    sequence: int


def new_session() -> str:
    """An id that nobody can guess."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SESSION_BYTES)).decode()


class _Signer(TimestampSigner):
    """With a clock that can be set."""

    clock: Callable[[], float]

    def get_timestamp(self) -> int:
        """See `TimestampSigner.get_timestamp`."""
        return int(self.clock())


class Tokens:
    """Makes and reads tokens, which are good for `seconds`. The state itself never travels.

    key: shared by the servers that share sessions; empty makes one that dies with the process. clock: seconds since
    1970; tokens count whole ones.
    """

    def __init__(self, key: str, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self._signer = _Signer(
            key or secrets.token_bytes(32), salt=_PURPOSE, key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._signer.clock = clock
        self._seconds = seconds

    def make(self, claim: Claim) -> str:
        """A token that is good for `seconds` from now."""
        body = claim.session.encode() + base64.urlsafe_b64encode(_SEQUENCE.pack(claim.sequence).lstrip(b"\0"))
        return self._signer.sign(body.rstrip(b"=")).decode()

    def read(self, token: str) -> Claim:
        """What a token says. Raises TokenError for one that is forged, damaged or too old."""
        try:
            body = self._signer.unsign(token, max_age=self._seconds)
            packed = base64.urlsafe_b64decode(body[16:] + b"=" * (-len(body[16:]) % 4))
            return Claim(body[:16].decode(), _SEQUENCE.unpack(packed.rjust(8, b"\0"))[0])
        except SignatureExpired as error:
            raise TokenError(f"the token is older than {self._seconds} s") from error
        except (BadSignature, binascii.Error, struct.error, UnicodeError) as error:
            raise TokenError("the token is not one of this server's") from error
