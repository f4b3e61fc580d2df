"""Resume tokens are short, signed, and valid for a limited time."""

from __future__ import annotations

import pytest

from service.streams.tokens import Claim, TokenError, Tokens, new_session
from service.tracking_workers.state import MOST_IDS


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("sequence", [0, 1, 255, 256, 2**40])
def test_a_token_names_a_session_and_a_result(sequence: int) -> None:
    tokens = Tokens("secret", 30)
    claim = Claim(new_session(), sequence, next_id=sequence % 1000)
    assert tokens.read(tokens.make(claim)) == claim
    assert len(tokens.make(claim)) < 90


def test_servers_with_the_same_key_read_each_others_tokens() -> None:
    claim = Claim(new_session(), 3)
    assert Tokens("secret", 30).read(Tokens("secret", 30).make(claim)) == claim
    with pytest.raises(TokenError, match="not one of this server's"):
        Tokens("another", 30).read(Tokens("secret", 30).make(claim))


def test_without_a_key_a_server_reads_only_its_own_tokens() -> None:
    with pytest.raises(TokenError, match="not one of this server's"):
        Tokens("", 30).read(Tokens("", 30).make(Claim(new_session(), 3)))


def test_a_server_that_adopts_a_key_still_reads_its_older_tokens() -> None:
    one, another = Tokens("", 30), Tokens("", 30)
    early = Claim(new_session(), 3)
    token = one.make(early)
    one.adopt(another.key)
    assert one.read(token) == early
    assert another.read(one.make(early)) == one.read(another.make(early)) == early


def test_only_the_last_keys_are_remembered() -> None:
    tokens = Tokens("first", 30)
    token = tokens.make(Claim(new_session(), 3))
    for key in (b"second", b"third", b"second", b"third"):  # adopting the same keys again displaces none
        tokens.adopt(key)
        tokens.read(token)
    tokens.adopt(b"fourth")
    with pytest.raises(TokenError):
        tokens.read(token)


def test_a_token_expires() -> None:
    clock = Clock()
    tokens = Tokens("secret", 30, clock)
    token = tokens.make(Claim(new_session(), 1))
    clock.now += 30
    tokens.read(token)
    clock.now += 1
    with pytest.raises(TokenError, match="older than 30 s"):
        tokens.read(token)


def test_a_token_may_be_as_far_in_the_future_as_it_may_be_old() -> None:
    ahead, here = Clock(), Clock()
    claim = Claim(new_session(), 1)
    for seconds in (1, 20, 30):
        ahead.now = here.now + seconds
        token = Tokens("secret", 30, ahead).make(claim)
        assert Tokens("secret", 30, here).read(token) == claim
    ahead.now = here.now + 31
    token = Tokens("secret", 30, ahead).make(claim)
    with pytest.raises(TokenError, match="31 s in the future"):
        Tokens("secret", 30, here).read(token)


def test_ids_too_large_for_a_token_are_clipped() -> None:
    tokens = Tokens("secret", 30)
    assert tokens.read(tokens.make(Claim(new_session(), 1, 2**40))).next_id == MOST_IDS


@pytest.mark.parametrize("token", ["", "x", "xxxx.yyyy.zzzz", "\udce4", "é" * 50])
def test_other_text_is_not_a_token(token: str) -> None:
    with pytest.raises(TokenError):
        Tokens("secret", 30).read(token)


def test_a_changed_token_is_not_valid() -> None:
    tokens = Tokens("secret", 30)
    good = tokens.make(Claim(new_session(), 1))
    for at in range(len(good) - 1):  # the last character of base64 may hold unused bits
        with pytest.raises(TokenError):
            tokens.read(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])


def test_sessions_do_not_repeat() -> None:
    assert len({new_session() for _ in range(1000)}) == 1000
