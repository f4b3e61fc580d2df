"""Resume tokens name a session and a result. They are signed and dated, so that clients cannot forge or hoard them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from itsdangerous import BadSignature, TimestampSigner

from service.tracking_workers.state import MOST_IDS

SESSION_BYTES = 12
_PURPOSE = b"posewire resume token"
_NEXT_ID, _SEQUENCE = struct.Struct(">I"), struct.Struct(">Q")
_KEYS = 3
"""How many keys are remembered. The newest signs tokens; the others only verify them."""


class TokenError(Exception):
    """A token is not valid. The message says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of a token. sequence: number of the result that the token came with.

    next_id: the first id that had not been assigned by then. A server that continues from an older state must not
    assign lower ids again.
    """

    session: str
    sequence: int
    next_id: int = 1


def new_session() -> str:
    """Return a session id that cannot be guessed."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SESSION_BYTES)).decode()


class _Signer(TimestampSigner):
    """A TimestampSigner with a clock that can be set."""

    clock: Callable[[], float]

    def get_timestamp(self) -> int:
        return int(self.clock())


class Tokens:
    """Makes and reads tokens, which are valid for `seconds`. They do not contain the state of the session.

    Servers' clocks may differ, so tokens dated up to `seconds` in the future are valid too.

    key: the same on all servers that share sessions; empty creates one for this process. clock: seconds since 1970;
    tokens are dated in whole seconds.
    """

    def __init__(self, key: str, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self._keys = [key.encode() or secrets.token_bytes(32)]  # the newest last
        self._clock = clock
        self._seconds = seconds
        self._signer = self._make_signer()

    @property
    def key(self) -> bytes:
        return self._keys[-1]

    def adopt(self, key: bytes) -> None:
        """Sign with this key from now on. Tokens signed with the last keys can still be read."""
        if key != self.key:
            self._keys = [*(known for known in self._keys if known != key), key][-_KEYS:]
            self._signer = self._make_signer()

    def make(self, claim: Claim) -> str:
        """Return a token that is valid for `seconds` from now."""
        numbers = _NEXT_ID.pack(min(claim.next_id, MOST_IDS)) + _SEQUENCE.pack(claim.sequence).lstrip(b"\0")
        body = claim.session.encode() + base64.urlsafe_b64encode(numbers)
        return self._signer.sign(body.rstrip(b"=")).decode()

    def read(self, token: str) -> Claim:
        """Return a token's claim. Raises TokenError if it is forged, damaged, too old or too far in the future."""
        try:
            body, made = self._signer.unsign(token, return_timestamp=True)
            numbers = base64.urlsafe_b64decode(body[16:] + b"=" * (-len(body[16:]) % 4))
            next_id, sequence = numbers[: _NEXT_ID.size], numbers[_NEXT_ID.size :]
            claim = Claim(
                body[:16].decode(), _SEQUENCE.unpack(sequence.rjust(8, b"\0"))[0], _NEXT_ID.unpack(next_id)[0]
            )
        except (BadSignature, binascii.Error, struct.error, UnicodeError) as error:
            raise TokenError("the token is not one of this server's") from error
        age = self._signer.get_timestamp() - made.timestamp()
        if age > self._seconds:
            raise TokenError(f"the token is older than {self._seconds} s by this server's clock")
        if age < -self._seconds:
            raise TokenError(f"the token is from {-age:.0f} s in the future by this server's clock")
        return claim

    def _make_signer(self) -> _Signer:
        signer = _Signer(self._keys, salt=_PURPOSE, key_derivation="hmac", digest_method=hashlib.sha256)
        signer.clock = self._clock
        return signer
