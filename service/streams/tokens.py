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

from itsdangerous import BadSignature, TimestampSigner

from service.streams.state import MOST_IDS

SESSION_BYTES = 12
_PURPOSE = b"posewire resume token"
_NEXT_ID, _SEQUENCE = struct.Struct(">I"), struct.Struct(">Q")
_KEYS = 3
"""How many keys are remembered; each but the newest is only read with."""


class TokenError(Exception):
    """A token that opens nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a token says. sequence: of the session's results, the one that the token came with.

    next_id: none of the session's people has had this id or a higher one. Who goes on from an older state must not give
    somebody an id that another person was seen with.
    """

    session: str
    sequence: int
    next_id: int = 1


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

    Servers' clocks may differ, so a token from the future is good as well, if it is not further ahead than that.

    key: shared by the servers that share sessions; empty makes one that dies with the process. clock: seconds since
    1970; tokens count whole ones.
    """

    def __init__(self, key: str, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self._keys = [key.encode() or secrets.token_bytes(32)]  # the newest last
        self._clock = clock
        self._seconds = seconds
        self._signer = self._make_signer()

    @property
    def key(self) -> bytes:
        """The key that tokens are made with."""
        return self._keys[-1]

    def adopt(self, key: bytes) -> None:
        """Make tokens with this key from now on; those made with the last ones can still be read."""
        if key != self.key:
            self._keys = [*(known for known in self._keys if known != key), key][-_KEYS:]
            self._signer = self._make_signer()

    def make(self, claim: Claim) -> str:
        """A token that is good for `seconds` from now."""
        numbers = _NEXT_ID.pack(min(claim.next_id, MOST_IDS)) + _SEQUENCE.pack(claim.sequence).lstrip(b"\0")
        body = claim.session.encode() + base64.urlsafe_b64encode(numbers)
        return self._signer.sign(body.rstrip(b"=")).decode()

    def read(self, token: str) -> Claim:
        """What a token says. Raises TokenError for one that is forged, damaged, too old or too far in the future."""
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
