"""A stream's decoder process, with good, broken and hostile chunks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.media.decoder_process import Bounds, DecoderEndedError
from service.media.image_files import ImageError, ImageLimits, ImageTooLargeError, UndecodableImageError
from service.media.video_decoder import VideoCodec, VideoDecoder
from tests.chunks import CODECS, chunks, scene
from tests.fuzz.budget import fuzz

LIMITS, BOUNDS = ImageLimits(max_pixels=2_000_000), Bounds(512_000_000, 10, 120.0)


@pytest.fixture(scope="module")
def vp8() -> list[bytes]:
    return [chunk[1:] for chunk in chunks("vp8", 6)]


@pytest.fixture(scope="module")
def hostile() -> Iterator[VideoDecoder]:
    with closing(VideoDecoder("vp8", BOUNDS)) as decoder:
        yield decoder


@pytest.mark.parametrize("codec", CODECS)
def test_every_chunk_gives_its_frame_at_once(codec: VideoCodec) -> None:
    with closing(VideoDecoder(codec, BOUNDS)) as decoder:
        for number, chunk in enumerate(chunks(codec, 8)):
            image = decoder.decode_chunks([chunk[1:]], LIMITS)
            assert image is not None
            assert (image.width, image.height) == (320, 240)
            assert np.abs(image.pixels.astype(int) - scene(number)).mean() < 12


@pytest.mark.parametrize("codec", CODECS)
def test_of_several_chunks_the_newest_is_shown_and_the_size_may_change(codec: VideoCodec) -> None:
    with closing(VideoDecoder(codec, BOUNDS)) as decoder:
        one, other = chunks(codec, 5), chunks(codec, 3, 480, 160)
        image = decoder.decode_chunks([chunk[1:] for chunk in one], LIMITS)
        assert image is not None
        assert np.abs(image.pixels.astype(int) - scene(4)).mean() < 12
        image = decoder.decode_chunks([chunk[1:] for chunk in other], LIMITS)
        assert image is not None
        assert (image.width, image.height) == (480, 160)


@pytest.mark.parametrize("codec", CODECS)
def test_without_a_key_frame_or_with_damage_there_is_an_error_and_a_key_frame_helps(codec: VideoCodec) -> None:
    good = [chunk[1:] for chunk in chunks(codec, 4)]
    with closing(VideoDecoder(codec, BOUNDS)) as decoder:
        for bad in ([good[2]], [np.random.default_rng(1).bytes(3000)]):
            with suppress(UndecodableImageError):
                assert decoder.decode_chunks(bad, LIMITS) is None
            image = decoder.decode_chunks(good, LIMITS)
            assert image is not None
            assert np.abs(image.pixels.astype(int) - scene(3)).mean() < 12


def test_frames_that_are_too_large_are_refused(vp8: list[bytes]) -> None:
    with closing(VideoDecoder("vp8", BOUNDS)) as decoder:
        with pytest.raises(ImageError):
            decoder.decode_chunks(vp8, ImageLimits(max_pixels=10_000))
        with pytest.raises(ImageTooLargeError, match="320 x 240"):
            decoder.decode_chunks(vp8, ImageLimits(max_side=300))


def test_the_server_may_refuse_the_memory_and_goes_on(vp8: list[bytes]) -> None:
    def refuse(size: int) -> None:
        raise MemoryError(size)

    with closing(VideoDecoder("vp8", BOUNDS)) as decoder:
        with pytest.raises(MemoryError):
            decoder.decode_chunks(vp8[:1], LIMITS, refuse)
        assert decoder.decode_chunks(vp8[1:], LIMITS) is not None


def test_a_process_that_is_killed_is_an_error_that_does_not_blame_the_video(vp8: list[bytes]) -> None:
    with closing(VideoDecoder("vp8", BOUNDS)) as decoder:
        assert decoder.decode_chunks(vp8[:1], LIMITS) is not None
        os.kill(decoder.pid, signal.SIGKILL)
        with pytest.raises(DecoderEndedError, match="SIGKILL"):
            decoder.decode_chunks(vp8[1:], LIMITS)
        assert not decoder.alive


@fuzz(60)
@given(data=st.data())
def test_damaged_chunks_give_a_picture_an_error_or_nothing(
    hostile: VideoDecoder, vp8: list[bytes], data: st.DataObject
) -> None:
    damaged = []
    for chunk in vp8:
        body = bytearray(chunk)
        for _ in range(data.draw(st.integers(0, 3))):
            body[data.draw(st.integers(0, min(len(body) - 1, 40)))] = data.draw(st.integers(0, 255))
        damaged.append(bytes(body[: data.draw(st.integers(1, len(body)))]))
    with suppress(ImageError):
        hostile.decode_chunks(damaged, LIMITS)
    assert hostile.decode_chunks(vp8, LIMITS) is not None
