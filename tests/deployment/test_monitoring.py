"""Alerts and the dashboard, evaluated by a real Prometheus that scrapes real replicas."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.camera_servers import HttpCamera
from tests.deployment.fleet import Fleet
from tests.deployment.programs import find, needs, needs_haproxy
from tests.deployment.watcher import DOCKER, INTERVAL_S, Watcher
from tests.pictures import encoded, photo
from tests.streaming import stream
from tests.waiting import wait_for

needs_prometheus = needs("prometheus", "prometheus")
needs_promtool = needs("promtool", "prometheus")

EXAMPLES = Path(__file__).with_name("alerts_test.yml")
ALERTS = [
    rule for group in yaml.safe_load((DOCKER / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]
]
PANELS = [p for p in json.loads((DOCKER / "grafana" / "posewire.json").read_text("utf-8"))["panels"] if "targets" in p]
QUERIES = {target["expr"] for panel in PANELS for target in panel["targets"]}

_ELSEWHERE = ("posewire_gpu_", "posewire_store_", "posewire_expired_total")
"""Metrics of servers with a GPU or Redis only, and of expired items, which traffic may not cause: admission refuses
them on arrival.
"""
_RATE = f"{8 * INTERVAL_S:.0f}s"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(find("promtool")), *arguments], capture_output=True, encoding="utf-8")


@needs_promtool
def test_the_configuration_and_the_alerts_are_valid() -> None:
    rules = promtool("check", "rules", str(DOCKER / "alerts.yml"))
    configuration = promtool("check", "config", "--syntax-only", str(DOCKER / "prometheus.yml"))
    assert (rules.returncode, configuration.returncode) == (0, 0), rules.stderr + configuration.stderr


@needs_promtool
def test_each_alert_is_raised_by_its_example_and_not_before() -> None:
    done = promtool("test", "rules", str(EXAMPLES))
    assert done.returncode == 0, done.stdout + done.stderr
    raised = {
        check["alertname"]
        for example in yaml.safe_load(EXAMPLES.read_text("utf-8"))["tests"]
        for check in example["alert_rule_test"]
        if check.get("exp_alerts")
    }
    assert raised == {alert["alert"] for alert in ALERTS}


@pytest.fixture(scope="module")
def busy(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two slow replicas with short queues, and a camera."""
    file = tmp_path_factory.mktemp("cameras") / "cameras.toml"
    environment = {"service_ms": 100, "max_queue": 8, "resume_seconds": 30, "cameras": file}
    with HttpCamera() as camera:
        file.write_text(f'[cameras.door]\nsource = "{camera.url}"\nfps = 2\n', "utf-8")
        with Fleet(
            2, "--model", "pair", catalogue=catalogue, environment=environment, module="tests.slow_server"
        ) as fleet:
            yield fleet


async def use(fleet: Fleet, jpeg: bytes) -> None:
    """Send good and broken stills, too many at once, one whose client disconnects, and a stream that resumes."""
    async with httpx.AsyncClient(base_url=fleet.url, timeout=30) as client:
        await client.post("/pose", content=encoded(photo(1600, 1200))[:-500])  # too large to decode in one step
        await asyncio.gather(*(client.post("/pose", content=jpeg) for _ in range(24)))
        leaving = asyncio.create_task(client.post("/pose", content=jpeg))
        await asyncio.sleep(0.05)
        leaving.cancel()
    async with stream(fleet.port, path="/stream?session=camera") as opened:
        for _ in range(4):
            await opened.send(jpeg)
        token = (await opened.receive())["token"]
    async with stream(fleet.port, path="/stream?session=camera", resume=token) as again:
        await again.ask(jpeg)


@needs_haproxy
@needs_prometheus
def test_every_query_has_a_result_after_traffic(busy: Fleet, jpeg: bytes) -> None:
    stats = f"127.0.0.1:{busy.balancer.stats_port}"
    replicas = [f"{replica.host}:{replica.port}" for replica in busy.replicas]
    with Watcher({"posewire": replicas, "haproxy": [stats]}) as watcher:
        wait_for(lambda: len(watcher.ask("up == 1")) == 3)
        asyncio.run(use(busy, jpeg))

        def unanswered() -> set[str]:
            asked = {q.replace("$__rate_interval", _RATE) for q in QUERIES if not any(n in q for n in _ELSEWHERE)}
            return {query for query in asked if not watcher.ask(query)}

        try:
            wait_for(lambda: not unanswered())
        except AssertionError:
            raise AssertionError(f"nothing answers {unanswered()}") from None
        for alert in ALERTS:
            watcher.ask(alert["expr"])
        waits = [float(series["value"][1]) for series in watcher.ask(autoscaler_query())]
        assert len(waits) == len(replicas)
        assert 0 <= min(waits) < max(waits)  # one of them may have got all requests of the last minute
        told = metric_names(*(f"{replica.url}/metrics" for replica in busy.replicas), f"http://{stats}/metrics")
        told |= {"up"}
        for query in (*QUERIES, *(alert["expr"] for alert in ALERTS)):
            assert names_in(query) <= told


def autoscaler_query() -> str:
    """Return the query of the adapter for docker/k8s' autoscaler, with replicas instead of pods."""
    [rule] = yaml.safe_load((DOCKER / "k8s" / "adapter.yaml").read_text("utf-8"))["rules"]
    query: str = rule["metricsQuery"]
    return query.replace("<<.GroupBy>>", "instance").replace("<<.LabelMatchers>>", 'job="posewire"')


def metric_names(*urls: str) -> set[str]:
    """Return all names of metrics in these texts, also of those without samples."""
    text = "".join(httpx.get(url, timeout=10).text for url in urls)
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    histograms = [name for name, kind in kinds.items() if kind == "histogram"]
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    return set(kinds) | parts


def names_in(query: str) -> set[str]:
    """Return the metrics that a query reads."""
    return set(re.findall(r"\b(?:posewire|haproxy)_\w+|\bup\b", query))
