"""Only tokens that were made with the key are valid."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from service.streams.tokens import Claim, TokenError, Tokens, new_session
from service.tracking_workers.state import MOST_IDS
from tests.fuzz.budget import fuzz

TOKENS = Tokens("key", 30, lambda: 1e9)
GOOD = TOKENS.make(Claim("abcdefghijklmnop", 77, 5))
alphabet = string.ascii_letters + string.digits + "-_.="


def claim_of(tokens: Tokens, token: str) -> Claim | None:
    """Return a token's claim, None if it is not valid."""
    try:
        return tokens.read(token)
    except TokenError as refused:
        reason = str(refused)
    assert 0 < len(reason) < 120
    return None


@fuzz(200)
@given(st.one_of(st.text(), st.text(alphabet), st.text(alphabet).map(lambda text: GOOD[:22] + text)))
def test_other_text_is_not_a_token(token: str) -> None:
    assert token == GOOD or claim_of(TOKENS, token) is None


@fuzz(200)
@given(st.integers(0, len(GOOD) - 2), st.sampled_from(alphabet), st.integers(0, 3))
def test_a_changed_token_is_not_valid(at: int, character: str, cut: int) -> None:
    changed = GOOD[:at] + character + GOOD[at + cut :]
    claimed = claim_of(TOKENS, changed)
    assert claimed is None or changed == GOOD


@fuzz(200)
@given(
    st.integers(0, 2**64 - 1), st.integers(1, MOST_IDS), st.floats(0, 4e9), st.floats(-1e9, 1e9), st.integers(0, 10**6)
)
def test_a_token_is_valid_for_its_time(sequence: int, next_id: int, made: float, later: float, seconds: int) -> None:
    claim = Claim(new_session(), sequence, next_id)
    token = Tokens("key", seconds, lambda: made).make(claim)
    read = Tokens("key", seconds, lambda: made + later)
    if abs(later) <= seconds - 1:
        assert read.read(token) == claim
    elif abs(later) >= seconds + 1 and made + later >= 0:
        assert claim_of(read, token) is None
    assert claim_of(Tokens("another", seconds, lambda: made), token) is None
