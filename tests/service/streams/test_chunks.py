"""The mailbox of compressed video loses no chunk, and is bounded."""

from __future__ import annotations

import pytest

from service.streams.chunks import ChunkMailbox
from service.streams.protocol import CloseCode, StreamError, read_chunk

KEY, DELTA = b"\x01k", b"\x00d"


def put(mailbox: ChunkMailbox, message: bytes = DELTA, *, size: int = 0) -> int:
    return mailbox.put(message + bytes(size), 0.0, key=message == KEY)


def test_all_chunks_are_taken_in_order_and_the_newest_is_looked_at() -> None:
    mailbox = ChunkMailbox()
    for number in range(4):
        assert put(mailbox, KEY if number == 0 else b"\x00%d" % number) == 0
    queued = mailbox.take()
    assert (queued.number, queued.data, queued.dropped) == (3, b"\x003", 3)
    assert queued.earlier == (KEY, b"\x001", b"\x002")
    put(mailbox)
    assert (mailbox.take().number, mailbox.size) == (4, 0)


def test_nothing_is_kept_before_the_first_key_frame_which_is_asked_for_at_a_bounded_rate() -> None:
    mailbox = ChunkMailbox()
    assert not mailbox.ask_now(0.0)
    asked = 0
    for number in range(100):
        assert put(mailbox) == 1
        asked += mailbox.ask_now(number / 100)
    assert asked == 2
    put(mailbox, KEY)
    assert not mailbox.ask_now(100.0)
    queued = mailbox.take()
    assert (queued.data, queued.earlier, queued.dropped) == (KEY, (), 100)


@pytest.mark.parametrize("size", [0, 500_000])
def test_what_waits_is_bounded_and_a_key_frame_is_asked_for_after_a_loss(size: int) -> None:
    mailbox = ChunkMailbox()
    put(mailbox, KEY)
    dropped = most = 0
    for _ in range(200):
        dropped += put(mailbox, size=size)
        most = max(most, mailbox.size)
    assert most <= 8_500_000
    assert dropped == 201
    assert mailbox.ask_now(1.0)
    assert mailbox.size == 0


def test_a_single_chunk_may_be_large() -> None:
    mailbox = ChunkMailbox()
    assert mailbox.put(KEY + bytes(9_000_000), 0.0, key=True) == 0
    assert len(mailbox.take().data) > 9_000_000


def test_after_a_loss_a_key_frame_that_waits_is_enough() -> None:
    mailbox = ChunkMailbox()
    for message in (KEY, DELTA, KEY, DELTA, DELTA):
        put(mailbox, message)
    assert mailbox.lose() == 2
    assert not mailbox.ask_now(1.0)
    queued = mailbox.take()
    assert (queued.number, queued.earlier) == (4, (KEY, DELTA))


@pytest.mark.parametrize("message", [b"", b"\x01", b"\x02data", b"\xff\xd8\xff\xe0"])
def test_messages_that_are_no_chunks_end_the_stream(message: bytes) -> None:
    with pytest.raises(StreamError, match="a chunk is a byte of flags") as ended:
        read_chunk(message, timestamps=False)
    assert ended.value.code == CloseCode.BAD_MESSAGE


def test_a_chunk_may_have_a_timestamp() -> None:
    message = bytes.fromhex("4059000000000000") + KEY
    assert read_chunk(message, timestamps=True) == (100.0, True, b"k")
    with pytest.raises(StreamError, match="timestamp"):
        read_chunk(KEY, timestamps=True)
