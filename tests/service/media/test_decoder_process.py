"""Decoder processes have limits, can be killed, and never outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.media.decode import ImageLimits, ImageTooLargeError, UndecodableImageError
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds, DecoderEndedError, DecoderProcess
from tests.pictures import encoded, photo
from tests.service.media.files import picture, png, png_chunk, rgb, slow_tiff
from tests.waiting import wait_for

LIMITS = ImageLimits()
PNG = encoded(picture(), "PNG")


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2, Bounds(memory=200_000_000, cpu_seconds=1)) as opened:
        yield opened


def decoded(pool: DecoderPool, data: bytes = PNG, kind: str = "PNG") -> bool:
    """True if a good image is decoded correctly."""
    return bool((pool.decode(kind, data, LIMITS, None).pixels == rgb()).all())


def gone(pid: int) -> bool:
    """True if a process has ended. A zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_process_is_started_on_demand_and_reused(pool: DecoderPool) -> None:
    assert pool.pids == []
    assert decoded(pool)
    [first] = pool.pids
    assert decoded(pool)
    assert pool.pids == [first]
    pool.trim()
    assert pool.pids == []
    assert gone(first)
    assert decoded(pool)


def test_several_threads_share_the_processes(pool: DecoderPool) -> None:
    right: list[bool] = []
    threads = [threading.Thread(target=lambda: right.extend(decoded(pool) for _ in range(5))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 30
    assert len(pool.pids) <= pool.size


def test_an_image_that_takes_too_long_is_refused_and_the_next_one_is_decoded(pool: DecoderPool) -> None:
    assert len(slow_tiff()) < 30_000
    with pytest.raises(UndecodableImageError, match=r"takes more than 1 s of processor time; .* or as a JPEG"):
        pool.decode("TIFF", slow_tiff(), LIMITS, None)
    assert pool.pids == []
    assert decoded(pool)


def test_the_time_limit_is_per_image_and_not_per_process(pool: DecoderPool) -> None:
    data = encoded(photo(2500, 2000), "PNG")
    for _ in range(8):
        pool.decode("PNG", data, LIMITS, None)
    [pid] = pool.pids
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 1


def test_an_image_that_takes_too_much_memory_is_refused_and_the_process_continues(pool: DecoderPool) -> None:
    data = png(9_000, 6_000, png_chunk(b"IDAT", b""))
    with pytest.raises(ImageTooLargeError, match="takes more memory"):
        pool.decode("PNG", data, ImageLimits(max_pixels=10**9), None)
    [pid] = pool.pids
    assert decoded(pool)
    assert pool.pids == [pid]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_dies_fails_one_image(pool: DecoderPool, number: signal.Signals) -> None:
    def die(process: DecoderProcess | None) -> None:
        if process is not None:
            os.kill(process.pid, number)

    error, message = (DecoderEndedError, "SIGKILL") if number == signal.SIGKILL else (UndecodableImageError, "crashed")
    with pytest.raises(error, match=message):
        pool.decode("TIFF", slow_tiff(), LIMITS, None, given_to=die)
    assert decoded(pool)


def test_an_idle_process_that_dies_is_replaced(pool: DecoderPool) -> None:
    assert decoded(pool)
    [pid] = pool.pids
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid))
    assert decoded(pool)


def test_a_process_without_an_answer_is_killed() -> None:
    with DecoderPool(1, Bounds(wall_seconds=0.5)) as pool:
        with pytest.raises(DecoderEndedError, match=r"no answer in 0\.5 s"):
            pool.decode("TIFF", slow_tiff(), LIMITS, None)
        assert pool.pids == []


def test_pixels_for_which_there_is_no_memory_are_not_decoded(pool: DecoderPool) -> None:
    asked: list[int] = []

    def refuse(size: int) -> None:
        asked.append(size)
        raise BufferError("no room")

    with pytest.raises(BufferError):
        pool.decode("TIFF", slow_tiff(), LIMITS, None, reserve=refuse)  # otherwise this would take a second
    [pid] = pool.pids
    pool.decode("PNG", encoded(photo(640, 480), "PNG"), LIMITS, (300, 200), reserve=asked.append)
    assert asked == [3 * 16_384, 3 * 320 * 240]
    assert pool.pids == [pid]


def test_closing_a_pool_ends_its_decoders() -> None:
    pool = DecoderPool(1, Bounds())
    given = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pool.decode("TIFF", slow_tiff(), LIMITS, None, given_to=lambda _: given.set())
        except DecoderEndedError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    given.wait()
    pool.close()
    thread.join()
    assert len(errors) == 1
    assert pool.pids == []
    with pytest.raises(DecoderEndedError, match="closed"):
        decoded(pool)


def test_a_process_has_no_secrets_and_a_low_priority(monkeypatch: pytest.MonkeyPatch, pool: DecoderPool) -> None:
    monkeypatch.setenv("POSEWIRE_RESUME_KEY", "secret")
    assert decoded(pool)
    [pid] = pool.pids
    assert b"POSEWIRE_" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.getpriority(os.PRIO_PROCESS, pid) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)


STARTER = """
import sys, threading
from service.media.decode import ImageLimits
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
data = sys.stdin.buffer.read()
tell = lambda process: print(process.pid, flush=True)
DecoderPool(1, Bounds(cpu_seconds=60)).decode("TIFF", data, ImageLimits(), None, given_to=tell)
"""


def test_a_decoder_ends_in_the_middle_of_an_image_when_its_server_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(slow_tiff())
        server.stdin.close()
        pid = int(server.stdout.readline())

        def busy() -> bool:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return int(fields[11]) / os.sysconf("SC_CLK_TCK") > 0.5

        wait_for(busy)
        os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: gone(pid))


def test_pixels_are_reduced_as_requested(pool: DecoderPool) -> None:
    image = photo(643, 481)
    small = pool.decode("PNG", encoded(image, "PNG"), LIMITS, (300, 200))
    assert (small.width, small.height, small.scale, small.pixels.shape) == (643, 481, 2, (240, 321, 3))
    assert small.pixels.flags.writeable
    wanted = rgb(image)[:480, :642].reshape(240, 2, 321, 2, 3).mean(axis=(1, 3))
    assert np.abs(small.pixels - wanted).max() <= 1
