"""API keys and rate limits."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.api.problems import ApiError
from service.api.security import ApiKeys, RateLimit, digest
from tests.servers import ServerProcess

KEY = "a-long-random-key"


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_keys_every_request_is_accepted() -> None:
    assert ApiKeys(()).check({}) == ""


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}]
)
def test_a_known_key_is_accepted_in_either_header(headers: dict[str, str]) -> None:
    assert ApiKeys((digest(KEY),)).check(headers).startswith("key:")


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "guess"}, {"authorization": f"Basic {KEY}"}, {"authorization": "Bearer"}]
)
def test_no_key_or_a_wrong_one_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refusal:
        ApiKeys((digest(KEY),)).check(headers)
    assert refusal.value.status == 401


def test_digests_are_read_from_settings_and_a_file_and_plain_keys_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# team vision\n{digest('one')}  # laptop\n\n{digest('two')}\n", "utf-8")
    keys = ApiKeys.read((digest("three"),), file)
    assert {keys.check({"x-api-key": name}) for name in ("one", "two", "three")} == {
        f"key:{digest(name)[:12]}" for name in ("one", "two", "three")
    }
    with pytest.raises(ValueError, match="not a SHA-256 digest"):
        ApiKeys.read(("plain-text-key",), None)


def test_a_client_may_send_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limit = RateLimit(rate=2.0, burst=3, clock=clock)
    for _ in range(3):
        limit.take("a")
    with pytest.raises(ApiError) as refusal:
        limit.take("a")
    assert refusal.value.status == 429
    assert refusal.value.retry_after_s == pytest.approx(0.5)
    limit.take("b")  # another client has its own bucket
    clock.now += 0.5
    limit.take("a")


def test_a_rate_of_zero_is_unlimited() -> None:
    limit = RateLimit(rate=0.0, burst=1)
    for _ in range(100):
        limit.take("a")


def test_a_server_with_keys_and_a_rate(catalogue: Path, jpeg: bytes) -> None:
    environment = {"api_keys": digest(KEY), "rate": 1, "burst": 4}
    with (
        ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        assert client.post("/pose", content=jpeg).status_code == 401
        assert client.get("/models").headers["www-authenticate"] == "Bearer"
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
        answers = [client.post("/pose", content=jpeg, headers={"X-API-Key": KEY}) for _ in range(8)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert not any(KEY in line or digest(KEY) in line for line in server.log)
