"""Three replicas, HAProxy and Redis under forty streams and twenty clients of stills: failures lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.deployment.crowd import Crowd
from tests.deployment.failover import deaths, deployment, redis_gone, rolling_restart
from tests.deployment.fleet import Fleet
from tests.deployment.programs import needs, needs_haproxy
from tests.redis_servers import RedisProcess

pytestmark = [needs_haproxy, needs("redis-server", "redis-server")]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, RedisProcess]]:
    with deployment(tmp_path_factory.mktemp("deployment")) as running:
        yield running


def assert_nothing_was_lost(crowd: Crowd) -> None:
    """Check that no stream, identity or still was lost."""
    assert [camera.problem for camera in crowd.cameras if camera.problem] == []
    assert sum(camera.lost for camera in crowd.cameras) == 0
    assert all(sorted(camera.known.values()) == [1, 2, 3] for camera in crowd.cameras)
    assert [failure for asker in crowd.askers for failure in asker.failures] == []
    assert sum(asker.wrong for asker in crowd.askers) == 0


def test_a_killed_and_a_stopped_replica_lose_nothing(deployed: tuple[Fleet, RedisProcess]) -> None:
    crowd = asyncio.run(deaths(deployed[0]))
    assert_nothing_was_lost(crowd)
    assert any(camera.gaps for camera in crowd.cameras)  # some streams were on the killed replica


def test_a_rolling_restart_loses_nothing(deployed: tuple[Fleet, RedisProcess]) -> None:
    crowd = asyncio.run(rolling_restart(deployed[0]))
    assert_nothing_was_lost(crowd)


def test_losing_redis_and_then_a_replica_loses_nothing(
    deployed: tuple[Fleet, RedisProcess],
) -> None:
    crowd = asyncio.run(redis_gone(*deployed))
    assert_nothing_was_lost(crowd)
    assert any(camera.gaps for camera in crowd.cameras)
