"""Streams of compressed video, on real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.client import AsyncClient, Client, read_frames
from tests.chunks import CODECS, chunks, encoder, scene
from tests.servers import ServerProcess
from tests.service.media.videos import make_video
from tests.streaming import Stream, refusal, stream
from tests.waiting import until

Message = Mapping[str, Any]


async def results(opened: Stream, wanted: Callable[[Message], bool]) -> list[Message]:
    """Return the messages up to the first that is wanted."""
    heard: list[Message] = []
    while not heard or not wanted(heard[-1]):
        heard.append(await opened.receive())
    return heard


def is_result(number: int) -> Callable[[Message], bool]:
    return lambda message: message["type"] == "result" and message["frame"] >= number


def asks(message: Message) -> bool:
    return bool(message["type"] == "key_frame")


def decoders(server: ServerProcess) -> list[int]:
    """The processes of the server that decode video."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
            if parent == server.process.pid and b"video_child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_every_chunk_is_decoded_and_the_newest_is_looked_at(live: ServerProcess, codec: str) -> None:
    sent = chunks(codec, 12)

    async def scenario() -> list[Message]:
        async with stream(live.port, video=codec, timestamps=True) as opened:
            assert opened.welcome["video"] == codec
            for number, chunk in enumerate(sent):
                await opened.send(chunk, 1000.0 + number)
            return await results(opened, is_result(11))

    heard = asyncio.run(scenario())
    assert {message["type"] for message in heard} == {"result"}
    assert len(heard) + sum(message["dropped"] for message in heard) == 12
    assert all((m["width"], m["height"], m["timestamp"]) == (320, 240, 1000.0 + m["frame"]) for m in heard)
    assert all(len(message["people"]) == 2 for message in heard)


def test_a_video_may_change_its_size_and_begin_late(live: ServerProcess) -> None:
    first, second = chunks("vp8", 3), chunks("vp8", 3, 480, 160)

    async def scenario() -> tuple[list[Message], list[Message]]:
        async with stream(live.port, video="vp8") as opened:
            await opened.send(first[1])  # depends on a key frame that the server has not seen
            asked = await results(opened, asks)
            for chunk in (*first, *second):
                await opened.send(chunk)
            return asked, await results(opened, is_result(6))

    asked, heard = asyncio.run(scenario())
    assert len(asked) == 1
    assert (heard[-1]["width"], heard[-1]["height"]) == (480, 160)
    assert heard[0]["dropped"] >= 1


@pytest.mark.parametrize("codec", CODECS)
def test_a_broken_chunk_gets_an_error_and_the_stream_continues_with_a_key_frame(
    live: ServerProcess, codec: str
) -> None:
    made = encoder(codec)

    async def scenario() -> list[Message]:
        async with stream(live.port, video=codec) as opened:
            await opened.send(made.encode(scene(0)))
            await results(opened, is_result(0))
            await opened.send(b"\x00" + np.random.default_rng(0).bytes(500))
            heard = await results(opened, lambda m: asks(m) or m["type"] == "error")
            for number in range(1, 4):
                await opened.send(made.encode(scene(number)))  # they depend on what is lost
            made.want_key_frame()
            await opened.send(made.encode(scene(5)))
            return heard + await results(opened, is_result(5))

    heard = asyncio.run(scenario())
    assert {"key_frame", "result"} <= {message["type"] for message in heard}
    for message in heard:
        if message["type"] == "error":
            assert f"cannot be decoded as {codec}" in message["error"]["detail"]


def test_a_decoder_that_dies_costs_a_key_frame_and_no_other_stream(live: ServerProcess) -> None:
    made, neighbour = encoder("vp8"), encoder("vp8")

    async def scenario() -> list[Message]:
        async with stream(live.port, video="vp8") as other:
            await other.send(neighbour.encode(scene(0)))
            await results(other, is_result(0))
            (theirs,) = decoders(live)
            async with stream(live.port, video="vp8") as opened:
                await opened.send(made.encode(scene(0)))
                await results(opened, is_result(0))
                (ours,) = set(decoders(live)) - {theirs}
                os.kill(ours, signal.SIGKILL)
                await opened.send(made.encode(scene(1)))
                heard = await results(opened, asks)
                made.want_key_frame()
                await opened.send(made.encode(scene(2)))
                heard += await results(opened, is_result(2))
                for number in range(1, 4):
                    await other.send(neighbour.encode(scene(number)))
                undisturbed = await results(other, is_result(3))
                assert {message["type"] for message in undisturbed} == {"result"}
        return heard

    heard = asyncio.run(scenario())
    assert all("try again" in m["error"]["detail"] for m in heard if m["type"] == "error")

    async def ended() -> None:
        await until(lambda: not decoders(live))  # no process outlives its stream

    asyncio.run(ended())
    metrics = httpx.get(f"{live.url}/metrics").text
    assert "posewire_stream_chunks_total" in metrics
    assert "posewire_stream_key_frames_total" in metrics


def test_a_stream_that_sends_only_rubbish_is_ended(live: ServerProcess) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(live.port, video="h264") as opened:
            rng = np.random.default_rng(0)
            for _ in range(5):
                await opened.send(b"\x01" + rng.bytes(2000))
                await results(opened, lambda m: m["type"] == "error")
            return await opened.ending()

    assert asyncio.run(scenario())[0] == 4415


def test_messages_that_are_no_chunks_end_the_stream(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(live.port, video="vp9") as opened:
            await opened.send(jpeg)
            return await opened.ending()

    code, why = asyncio.run(scenario())
    assert code == 4400
    assert "a chunk is a byte of flags" in why


def test_an_unknown_codec_is_refused(live: ServerProcess) -> None:
    assert asyncio.run(refusal(live.port, '{"video": "mjpeg"}'))[0] == 4422


def test_a_stream_that_is_resumed_begins_with_a_key_frame_and_keeps_its_people(live: ServerProcess) -> None:
    sent = chunks("vp8", 6)

    async def scenario() -> tuple[Message, Message]:
        async with stream(live.port, video="vp8") as opened:
            for chunk in sent[:3]:
                await opened.ask(chunk)
            before = await opened.ask(sent[3])
        async with stream(live.port, video="vp8", resume=before["token"]) as again:
            assert again.welcome["resumed"]
            await again.send(sent[4])
            await results(again, asks)
            await again.send(sent[0])
            return before, (await results(again, is_result(1)))[-1]

    before, after = asyncio.run(scenario())
    assert [p["id"] for p in before["people"]] == [p["id"] for p in after["people"]]


def test_the_client_encodes_frames_and_sends_key_frames_on_request(live: ServerProcess) -> None:
    async def scenario() -> list[int]:
        async with AsyncClient(live.url).stream(video="vp8", model="pair") as opened:
            seen = [(await opened.ask(scene(number))).frame for number in range(3)]
            for pid in decoders(live):
                os.kill(pid, signal.SIGKILL)
            number = 3
            while (result := await opened.ask(scene(number))).problem or number < 6:
                number += 1
            seen.append(result.frame)
            with pytest.raises(TypeError, match="video"):
                await opened.send(b"a picture")
        return seen

    assert asyncio.run(scenario())[:3] == [0, 1, 2]


def test_the_client_streams_a_video_file(live: ServerProcess, tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", 6)
    with Client(live.url) as client:
        seen = [(r.frame, r.width) for r in client.stream(read_frames(path), video="h264", model="pair")]
    assert seen == [(number, 160) for number in range(6)]
