"""Webhooks, against a receiver that fails in every way."""

from __future__ import annotations

import base64
import hmac
import ssl
import time
from pathlib import Path

import pytest

from tests.certificates import make
from tests.service.events.happenings import Counts, happening, on_loop, running, sinks
from tests.service.events.receiver import Receiver, answer
from tests.waiting import until

KEY = "a secret of the receiver"


def hook(receiver: Receiver, **others: object) -> dict[str, object]:
    return {"type": "webhook", "url": receiver.url, **others}


def is_genuine(headers: dict[str, str], body: bytes, secret: bytes) -> bool:
    """As in README."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and hmac.compare_digest(expected, headers["webhook-signature"])


@on_loop
async def test_an_event_is_a_signed_cloud_event(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        entry = hook(receiver, secret=KEY, headers={"Authorization": "Bearer t"})
        async with running(tmp_path, sinks(hook=entry)) as events:
            await events.add([happening(1)])
            await until(lambda: len(receiver.accepted) == 1)
    [request] = receiver.accepted
    assert request.event == {
        "specversion": "1.0",
        "id": "cameras/door-enter-1",
        "source": "cameras/door",
        "type": "posewire.enter",
        "time": "2023-11-14T22:13:21.500Z",
        "datacontenttype": "application/json",
        "data": {"name": "desk", "id": 1, "number": 1, "box": [1.0, 2.0, 3.0, 4.0]},
    }
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["authorization"] == "Bearer t"
    assert is_genuine(dict(request.headers), request.body, KEY.encode())
    assert not is_genuine(dict(request.headers), request.body + b" ", KEY.encode())
    assert not is_genuine(dict(request.headers) | {"webhook-timestamp": "1"}, request.body, KEY.encode())


FAULTS: dict[str, bytes | str] = {
    "closes before an answer": "close",
    "closes amid an answer": "cut",
    "hangs": "hang",
    "never ends its answer": "drip",
    "has failed": answer(500, body=b"x" * 100),
    "is down for a moment": answer(503, "retry-after: 0"),
    "has too many requests": answer(429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT"),
    "says 408": answer(408),
    "does not speak HTTP": b"220 smtp.example.org 2\r\n",
}
ENDLESS = ("hang", "drip", FAULTS["does not speak HTTP"])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@on_loop
async def test_what_fails_is_tried_again_with_the_same_id_and_in_order(fault: bytes | str, tmp_path: Path) -> None:
    counts = Counts()
    async with Receiver() as receiver:
        receiver.faults += [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", fault, fault]
        entry = hook(receiver, timeout_seconds=0.3 if fault in ENDLESS else 10)
        async with running(tmp_path, sinks(hook=entry), counts) as events:
            await events.add([happening(n) for n in range(5)])
            await until(lambda: len(receiver.accepted) >= 5)
            await until(lambda: counts.got["hook"] == 5)
    assert receiver.ids() == [f"cameras/door-enter-{n}" for n in range(5)]
    assert [request.event["id"] for request in receiver.requests[1:4]] == ["cameras/door-enter-1"] * 3
    assert counts.tries["hook"] == 2
    assert not counts.lost


@on_loop
async def test_a_slow_answer_counts_and_a_receiver_that_was_away_gets_everything(tmp_path: Path) -> None:
    counts = Counts()
    async with Receiver() as receiver:
        receiver.faults += ["slow"]
        async with running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
            await events.add([happening(0)])
            await until(lambda: counts.got["hook"] == 1)
            await receiver.refuse()
            for n in range(1, 200):
                await events.add([happening(n, f"cameras/{n % 3}")])
            await until(lambda: counts.tries["hook"] >= 2)
            await receiver.listen()
            await until(lambda: counts.got["hook"] == 200)
    for camera in range(3):
        expected = [f"cameras/{camera}-enter-{n}" for n in range(1, 200) if n % 3 == camera]
        assert [number for number in receiver.ids() if number.startswith(f"cameras/{camera}-")] == expected


@on_loop
async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        receiver.faults += [answer(429, "retry-after: 1")]
        async with running(tmp_path, sinks(hook=hook(receiver))) as events:
            began = time.monotonic()
            await events.add([happening(1)])
            await until(lambda: bool(receiver.accepted))
            assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [301, 400, 401, 410])
@on_loop
async def test_a_refused_event_is_given_up_after_five_tries_and_counted(status: int, tmp_path: Path) -> None:
    counts = Counts()
    async with Receiver() as receiver:
        receiver.faults += [answer(status, "location: http://127.0.0.1:1/")] * 5
        async with running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
            await events.add([happening(n) for n in range(3)])
            await until(lambda: counts.got["hook"] == 2)
    assert [request.event["id"] for request in receiver.requests[:5]] == ["cameras/door-enter-0"] * 5
    assert receiver.ids() == ["cameras/door-enter-1", "cameras/door-enter-2"]
    assert counts.lost == {("hook", "refused"): 1}


@on_loop
async def test_tries_of_an_event_that_is_refused_are_counted_through_restarts(tmp_path: Path) -> None:
    async with Receiver(always=answer(400)) as receiver:
        for counts in (Counts(), Counts()):
            async with running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
                await events.add([happening(0)])
                await until(lambda: counts.tries["hook"] >= 2)  # noqa: B023 - awaited here
        receiver.always = answer(200)
        receiver.faults += [answer(400)] * (5 - len(receiver.requests))
        async with running(tmp_path, sinks(hook=hook(receiver))) as events:
            await events.add([happening(1)])
            await until(lambda: len(receiver.accepted) == 1)
    assert receiver.ids() == [happening(1).id]
    assert [request.event["id"] for request in receiver.requests] == [happening(0).id] * 5 + [happening(1).id]


@on_loop
async def test_a_receiver_of_a_private_authority_is_trusted_once_its_certificate_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    certificate, key = make(tmp_path, "receiver")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    named = tmp_path / "authority.pem"
    async with Receiver(tls=tls) as receiver, running(tmp_path, sinks(hook=hook(receiver)), counts) as events:
        await events.add([happening(1)])
        await until(lambda: counts.tries["hook"] >= 1)
        assert "its certificate is not accepted" in caplog.text
        await events.reload(sinks(hook=hook(receiver, certificate=str(named))))
        await until(lambda: "its `certificate` cannot be read: No such file" in caplog.text)
        assert not receiver.requests
        named.write_bytes(certificate.read_bytes())  # read again without a reload
        await until(lambda: counts.got["hook"] == 1)
    assert receiver.ids() == [happening(1).id]


@on_loop
async def test_a_sink_that_hangs_holds_up_no_other_and_can_be_stopped(tmp_path: Path) -> None:
    async with Receiver(always="hang") as hanging, Receiver() as good:
        settings = sinks(hanging=hook(hanging, timeout_seconds=100), good=hook(good))
        async with running(tmp_path, settings) as events:
            await events.add([happening(n) for n in range(100)])
            await until(lambda: len(good.accepted) == 100 and hanging.held > 0)
            began = time.monotonic()
            await events.reload(sinks(good=hook(good)))
            stopped_after = time.monotonic() - began
            await events.add([happening(100)])
            await until(lambda: len(good.accepted) == 101)
    assert len(set(good.ids())) == 101
    assert stopped_after < 20  # two seconds, on a machine that is ten times slower


@on_loop
async def test_secrets_are_in_no_log_and_no_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Receiver() as receiver:
        receiver.faults += ["close", answer(500), *[answer(400)] * 5]
        url = receiver.url.replace("//", "//user:hunter2@") + "/token-in-the-path"
        entry = hook(receiver, secret=3 * "hunter2-") | {"url": url, "headers": {"X-Key": "hunter2"}}
        settings = sinks(hook=entry)
        async with running(tmp_path, settings) as events:
            await events.add([happening(1), happening(2)])
            await until(lambda: len(receiver.accepted) == 1)
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {caplog.text}"
    assert "given up" in caplog.text
    assert "hunter2" not in shown
    assert "token-in-the-path" not in shown
