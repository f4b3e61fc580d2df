"""MQTT, with a real mosquitto, and mosquitto_sub as the subscriber."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.certificates import make
from tests.mosquitto import Mosquitto, Subscriber
from tests.service.events.happenings import Counts, happening, on_loop, running, sinks
from tests.waiting import until

LIVE = {"state": "live", "people": 2, "occupancy": {"the desk's": 1}}


@on_loop
async def test_events_states_and_discovery(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        async with running(tmp_path, sinks(home={"type": "mqtt", "url": broker.url})) as events:
            events.note({"cameras/door": LIVE})
            await events.add([happening(1), happening(2, kind="fall")])
            await until(lambda: len(heard.on("posewire/cameras/door/events")) == 2)
            await until(lambda: heard.last("posewire/cameras/door/availability") == "online")
            assert heard.on("posewire/cameras/door/events") == [
                happening(1).document(),
                happening(2, kind="fall").document(),
            ]
            await until(lambda: ("posewire/cameras/door/fall", "ON") in heard.messages)
            assert heard.on("posewire/cameras/door/state")[-1] == LIVE
            [config] = heard.on("homeassistant/device/posewire_door/config")
            components = config["components"]
            assert {part["platform"] for part in components.values()} == {"sensor", "binary_sensor", "event"}
            assert len({part["unique_id"] for part in components.values()}) == len(components) == 4
            [server, camera] = (one["topic"] for one in config["availability"])
            assert heard.last(server) == heard.last(camera) == "online"

            events.note({"cameras/door": LIVE | {"state": "lost"}})
            await until(lambda: heard.last(camera) == "offline")
            assert len(heard.on("homeassistant/device/posewire_door/config")) == 1  # it says the same
            with Subscriber(broker.port) as late:  # as Home Assistant after its restart
                await until(lambda: late.retained.get(camera) == "offline" and late.retained.get(server) == "online")
                await until(lambda: "homeassistant/device/posewire_door/config" in late.retained)
                assert "posewire/cameras/door/events" not in late.retained

            events.note({"cameras/door": LIVE | {"occupancy": {"sofa": 0}}})
            await until(lambda: len(heard.on("homeassistant/device/posewire_door/config")) == 3)
            _, removing, left = [one["components"] for one in heard.on("homeassistant/device/posewire_door/config")]
            [gone] = components.keys() - left.keys()
            assert removing == {**left, gone: {"platform": "sensor"}}  # Home Assistant would keep what is only left out
            assert components[gone]["name"] == "People in the desk's"

            events.note({})
            await until(lambda: heard.last("homeassistant/device/posewire_door/config") == "")
            assert heard.last("posewire/cameras/door/state") == ""
        await until(lambda: heard.last(server) == "offline")


def numbers(heard: Subscriber) -> list[int]:
    return [event["data"]["number"] for event in heard.on("posewire/cameras/a/events")]


@on_loop
async def test_a_broker_that_dies_gets_everything_in_order_and_all_states_again(tmp_path: Path) -> None:
    counts = Counts()
    with Mosquitto(tmp_path) as broker:
        async with running(tmp_path, sinks(home={"type": "mqtt", "url": broker.url}), counts) as events:
            events.note({"cameras/a": LIVE})
            await events.add([happening(0, "cameras/a")])
            await until(lambda: counts.got["home"] == 1)
            broker.kill()
            for n in range(1, 300):
                await events.add([happening(n, "cameras/a")])
            await until(lambda: counts.tries["home"] >= 2)
            broker.start()
            with Subscriber(broker.port, "#") as heard:
                await until(lambda: counts.got["home"] == 300)
                await until(lambda: heard.last("posewire/cameras/a/availability") == "online")
                await until(lambda: numbers(heard)[-1:] == [299])
                seen = numbers(heard)
            assert seen == list(range(300 - len(seen), 300))  # what came before the subscriber it did not hear


@on_loop
async def test_a_broker_that_does_not_answer_is_noticed_and_can_be_left(tmp_path: Path) -> None:
    counts = Counts()
    entry = {"type": "mqtt", "url": "", "timeout_seconds": 0.5}
    with Mosquitto(tmp_path) as broker:
        entry["url"] = broker.url
        async with running(tmp_path, sinks(home=entry), counts) as events:
            await events.add([happening(0)])
            await until(lambda: counts.got["home"] == 1)
            broker.freeze()
            await events.add([happening(1)])
            await until(lambda: counts.tries["home"] >= 2)
            broker.thaw()
            await until(lambda: counts.got["home"] == 2)
            broker.freeze()
            began = time.monotonic()
            await events.reload(sinks())
            stopped_after = time.monotonic() - began
    assert stopped_after < 20  # two seconds, on a machine that is ten times slower


@on_loop
async def test_a_broker_that_refuses_is_told_in_words_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    with Mosquitto(tmp_path, users={"me": "right"}) as broker:
        wrong = {"type": "mqtt", "url": broker.url, "username": "me", "password": "hunter2"}
        async with running(tmp_path, sinks(home=wrong), counts) as events:
            await events.add([happening(0)])
            await until(lambda: counts.tries["home"] >= 1)
            assert "not authorized" in caplog.text or "bad user name or password" in caplog.text
            await events.reload(sinks(home=wrong | {"password": "right"}))
            await until(lambda: counts.got["home"] == 1)
    assert "hunter2" not in caplog.text


@on_loop
async def test_what_the_broker_does_not_accept_is_given_up_and_counted(tmp_path: Path) -> None:
    counts = Counts()
    with Mosquitto(tmp_path, "max_packet_size 2000") as broker, Subscriber(broker.port) as heard:
        async with running(tmp_path, sinks(home={"type": "mqtt", "url": broker.url}), counts) as events:
            large = happening(1)
            await events.add([happening(0), type(large)("large", large.source, 1.0, "enter", {"x": "x" * 5000})])
            await events.add([happening(2)])
            await until(lambda: counts.got["home"] == 2)
            await until(lambda: len(heard.on("posewire/cameras/door/events")) == 2)
            await until(lambda: bool(counts.lost))
    assert counts.lost == {("home", "refused"): 1}


@on_loop
async def test_an_encrypted_connection(tmp_path: Path) -> None:
    counts = Counts()
    certificate, key = make(tmp_path, "broker")
    lines = (f"certfile {certificate}", f"keyfile {key}")
    with Mosquitto(tmp_path, *lines) as broker:
        entry = {"type": "mqtt", "url": broker.url.replace("mqtt:", "mqtts:")}
        async with running(tmp_path, sinks(home=entry), counts) as events:
            await events.add([happening(0)])
            await until(lambda: counts.tries["home"] >= 1)  # nobody knows who signed it
            assert not counts.got
            await events.reload(sinks(home=entry | {"certificate": str(certificate)}))
            await until(lambda: counts.got["home"] == 1)
