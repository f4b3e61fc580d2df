"""Abuse of the websocket protocol gets the right close code and does not affect other streams."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.service.api.raw import RawSocket
from tests.streaming import stream

pytestmark = pytest.mark.slow

CLOSE, TEXT, BINARY, PING, PONG, CONTINUED = 8, 1, 2, 9, 10, 0


def test_a_frame_may_be_fragmented_with_pings_in_between(live: ServerProcess, jpeg: bytes) -> None:
    with RawSocket(live.port) as socket:
        socket.send(TEXT, b'{"min_', last=False)
        socket.send(PING, b"are you there")
        socket.send(CONTINUED, b'score": 0.5}')
        assert socket.until(PONG).data == b"are you there"
        assert '"welcome"' in socket.until(TEXT).data.decode()
        pieces = [jpeg[at : at + 1000] for at in range(0, len(jpeg), 1000)]
        for number, piece in enumerate(pieces):
            socket.send(CONTINUED if number else BINARY, piece, last=number == len(pieces) - 1)
            socket.send(PING, b"%d" % number)
        assert '"type":"result"' in socket.until(TEXT).data.decode()


Abuse = Callable[[RawSocket, bytes], None]


def hello(socket: RawSocket) -> None:
    socket.send_text("{}")
    assert socket.until(TEXT).opcode == TEXT


def oversize(socket: RawSocket, jpeg: bytes) -> None:
    hello(socket)
    socket.send(BINARY, jpeg, length=1_000_001)


def oversize_in_pieces(socket: RawSocket, jpeg: bytes) -> None:
    hello(socket)
    for number in range(11):
        socket.send(CONTINUED if number else BINARY, bytes(100_000), last=False)


def boundless(socket: RawSocket, jpeg: bytes) -> None:
    hello(socket)
    socket.send(BINARY, jpeg, length=2**62)


def broken_utf8(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(TEXT, b'{"model": "\xff\xfe"}')


def broken_utf8_later(socket: RawSocket, jpeg: bytes) -> None:
    hello(socket)
    socket.send(TEXT, b"\xc3\x28")


def text_for_a_frame(socket: RawSocket, jpeg: bytes) -> None:
    hello(socket)
    socket.send_text("data:image/jpeg;base64,...")


def frame_for_a_hello(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(BINARY, jpeg)


def unknown_member(socket: RawSocket, jpeg: bytes) -> None:
    socket.send_text('{"modell": "tiny"}')


def unmasked(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(TEXT, b"{}", masked=False)


def reserved_bits(socket: RawSocket, jpeg: bytes) -> None:
    socket.send_bytes(b"\xf1\x82\0\0\0\0{}")


def unknown_opcode(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(5, b"?")


def continued_from_nothing(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(CONTINUED, b"{}")


def message_within_a_message(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(TEXT, b"{", last=False)
    socket.send(TEXT, b"{}")


def fragmented_ping(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(PING, b"half", last=False)


def long_ping(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(PING, bytes(126))


def close_with_a_code_of_its_own(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(CLOSE, struct.pack(">H", 1005))


def close_of_one_byte(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(CLOSE, b"x")


def endless_crumbs(socket: RawSocket, jpeg: bytes) -> None:
    """Empty fragments have no size, but each takes memory."""
    hello(socket)
    socket.send(BINARY, b"x", last=False)
    socket.send_bytes(b"\0\x80\0\0\0\0" * 5000)


@pytest.mark.parametrize(
    ("abuse", "code"),
    [
        (oversize, 1009), (oversize_in_pieces, 1009), (boundless, 1009), (broken_utf8, 1007), (broken_utf8_later, 1007),
        (text_for_a_frame, 4400), (frame_for_a_hello, 4400), (unknown_member, 4422), (unmasked, 1002),
        (reserved_bits, 1002), (unknown_opcode, 1002), (continued_from_nothing, 1002), (message_within_a_message, 1002),
        (fragmented_ping, 1002), (long_ping, 1002), (close_with_a_code_of_its_own, 1002), (close_of_one_byte, 1002),
        (endless_crumbs, 1009),
    ],
)  # fmt: skip
def test_each_abuse_gets_its_close_code_and_affects_no_other_stream(
    live: ServerProcess, jpeg: bytes, abuse: Abuse, code: int
) -> None:
    async def scenario() -> int:
        async with stream(live.port) as bystander:
            await bystander.ask(jpeg)
            got = await asyncio.to_thread(abused)
            assert (await bystander.ask(jpeg))["type"] == "result"
            return got

    def abused() -> int:
        with RawSocket(live.port) as socket:
            with suppress(ConnectionError):  # refused while it was still sending
                abuse(socket, jpeg)
            return socket.until(CLOSE).code

    log = len(live.log)
    assert asyncio.run(scenario()) == code
    assert not [line for line in live.log[log:] if '"level":"error"' in line]


def test_a_client_that_pings_and_never_reads_costs_no_memory(impatient: ServerProcess) -> None:
    """Every ping is answered by a pong of the same size. The server must not buffer them without limit."""

    def ping_forever(socket: RawSocket) -> None:
        while True:
            socket.send_bytes(20_000 * (b"\x89\xfd\0\0\0\0" + bytes(125)))

    before = impatient.memory_mb()
    with RawSocket(impatient.port, receive_buffer=4096) as socket:
        hello(socket)
        with pytest.raises(ConnectionError):
            ping_forever(socket)
    assert impatient.memory_mb() - before < 10


def test_a_connection_cut_in_the_middle_of_a_frame_leaves_nothing_behind(live: ServerProcess) -> None:
    large = encoded(photo(1280, 960), quality=95)
    files = live.open_files()
    for _ in range(5):
        with RawSocket(live.port) as socket:
            hello(socket)
            socket.send(BINARY, large[: len(large) // 2], length=len(large))
    assert live.open_files() <= files + 2


def small_messages(socket: RawSocket, jpeg: bytes) -> None:
    socket.send_bytes(b"\x82\x81\0\0\0\0x" * 60_000)


def acknowledgements(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(BINARY, jpeg)
    socket.until(TEXT)
    text = b'{"ack": 0}'
    socket.send_bytes((b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text) * 60_000)


def pings(socket: RawSocket, jpeg: bytes) -> None:
    socket.send_bytes(b"\x89\x80\0\0\0\0" * 60_000)


def pongs(socket: RawSocket, jpeg: bytes) -> None:
    socket.send_bytes((b"\x8a\xfd\0\0\0\0" + bytes(125)) * 60_000)


def pings_within_a_message(socket: RawSocket, jpeg: bytes) -> None:
    socket.send(BINARY, b"x", last=False)
    socket.send_bytes(b"\x89\x80\0\0\0\0" * 60_000)


@pytest.mark.parametrize("flood", [small_messages, acknowledgements, pings, pongs, pings_within_a_message])
def test_a_flood_of_messages_is_slowed_down_and_other_streams_are_not(
    live: ServerProcess, jpeg: bytes, flood: Abuse
) -> None:
    async def scenario() -> None:
        async with stream(live.port) as bystander:
            with RawSocket(live.port, source="127.0.0.66") as socket:
                hello(socket)
                flooding = asyncio.create_task(asyncio.to_thread(flooded, socket))
                results = [await bystander.ask(jpeg) for _ in range(5)]
                while not flooding.done():
                    results.append(await bystander.ask(jpeg))
                await flooding
            assert {result["type"] for result in results} == {"result"}

    def flooded(socket: RawSocket) -> None:
        with suppress(OSError):  # five bad frames in a row end a stream
            flood(socket, jpeg)

    asyncio.run(scenario())


def test_the_message_rate_of_a_camera_is_not_slowed_down(live: ServerProcess, jpeg: bytes) -> None:
    with RawSocket(live.port) as socket:
        hello(socket)
        for number in range(200):
            socket.send(PING, b"%d" % number)
        socket.send(BINARY, jpeg)
        assert '"type":"result"' in socket.until(TEXT).data.decode()
