"""The tiny model, the picture and the installed client that tests of servers share, and settings for all tests."""

from __future__ import annotations

import functools
import signal
from pathlib import Path

import httpx
import httpx._transports.default
import pytest
from hypothesis import HealthCheck, settings

from tests.graphs import tiny_catalogue
from tests.light_client import install_client
from tests.pictures import encoded, photo

# A shell that runs tests in the background ignores SIGINT, which the processes of tests would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `httpx.get` and every new client load the certificates of all authorities, which takes 20 ms or more: far longer than
# a request, and tests that wait for a server send many. They share what was loaded first.
httpx._transports.default.create_ssl_context = functools.lru_cache(httpx.create_ssl_context)  # type: ignore[attr-defined]

# The time of an example depends on the load of the machine, so it is not checked.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_catalogue(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encoded(photo(), quality=90)


@pytest.fixture(scope="session")
def light_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed client and the packages that it needs, see `install_client`."""
    pytest.importorskip("hatchling", reason="needs hatchling: make test installs it")
    return install_client(tmp_path_factory.mktemp("client"))
