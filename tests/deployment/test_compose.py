"""docker-compose.yml and the Dockerfile, as far as they can be judged without an engine that runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.config import Settings
from tests.deployment.balancer import CONFIGURATION

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE_FILES = (ROOT / "docker-compose.yml", ROOT / "docker" / "tls.yml")
COMPOSE: Mapping[str, Any] = yaml.safe_load(COMPOSE_FILES[0].read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
REPLICAS = ("posewire", "posewire-gpu")

_NO_SETTINGS = {"POSEWIRE_CATALOGUE", "POSEWIRE_CONFIG", "POSEWIRE_MODELS", "POSEWIRE_SECRETS"}
"""Variables of the server that are read before its settings."""


def tool(name: str) -> str:
    """A program of the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_it_is_what_the_compose_specification_says(path: Path) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_is_lint_clean() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", REPLICAS)
def test_replicas_are_given_settings_that_they_have_and_accept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [key for key in os.environ if key.startswith("POSEWIRE_")]:
        monkeypatch.delenv(variable)
    given = {key: resolve(str(value)) for key, value in SERVICES[name]["environment"].items()}
    for variable, value in given.items():
        assert variable in _NO_SETTINGS or variable.removeprefix("POSEWIRE_").lower() in Settings.model_fields
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("POSEWIRE_SECRETS")  # a folder of the container
    settings = Settings()
    assert settings.redis_url.get_secret_value().startswith("redis://redis:")
    assert settings.port == 8000  # which the load balancer, Prometheus and the health check expect


def test_the_load_balancer_is_given_variables_that_it_reads() -> None:
    text = CONFIGURATION.read_text()
    tls = yaml.safe_load(COMPOSE_FILES[1].read_text())["services"]["haproxy"]
    for variable in (*SERVICES["haproxy"]["environment"], *tls["environment"]):
        assert re.search(rf"\${{?{variable}\b", text)


def test_a_replica_has_time_to_drain_and_the_load_balancer_time_to_notice() -> None:
    text = CONFIGURATION.read_text()
    for name in REPLICAS:
        environment = SERVICES[name]["environment"]
        drain, grace = (float(environment[f"POSEWIRE_{part}_SECONDS"]) for part in ("DRAIN", "GRACE"))
        assert seconds(text, "inter") < drain
        assert drain + grace < float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    pings: float = Settings.model_fields["ping_seconds"].default
    assert pings * 2 < seconds(text, "timeout tunnel")


def test_a_replica_that_hangs_is_noticed_within_three_intervals() -> None:
    text = CONFIGURATION.read_text()
    interval, once, again = (seconds(text, name) for name in ("inter", "timeout check", "fastinter"))
    assert "fall 2" in text
    assert interval + once + again + once < 3 * interval


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_can_do_and_use_only_what_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["pids"]
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+", service["image"])  # pinned
    assert "healthcheck" in service or "HEALTHCHECK" in DOCKERFILE.read_text()


def test_what_is_mounted_or_named_exists() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= {*COMPOSE["networks"], "default"}
        assert not service.get("ports") or "default" in service["networks"]
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / resolve(secret["file"])).is_file()


def test_secrets_are_empty_where_they_are_public() -> None:
    for secret in COMPOSE["secrets"].values():
        lines = (ROOT / resolve(secret["file"])).read_text().splitlines()
        assert all(line.startswith("#") for line in lines)


def test_other_services_are_called_by_names_that_they_have() -> None:
    assert re.search(r"presetenv POSEWIRE_REPLICAS posewire:8000\b", CONFIGURATION.read_text())
    assert "posewire" in SERVICES["posewire-gpu"]["networks"]["replicas"]["aliases"]
    grafana = yaml.safe_load((ROOT / "docker" / "grafana" / "datasource.yml").read_text())
    assert grafana["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_the_image_is_built_from_files_that_are_there_and_not_ignored() -> None:
    let_through = {line[1:] for line in (ROOT / "docker/Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    copied = list(copies())
    assert len(copied) > 5
    for source in copied:
        assert (ROOT / source).exists()
        assert Path(source).parts[0] in let_through


def copies() -> Iterator[str]:
    """What the Dockerfile copies out of the repository."""
    for arguments in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), re.MULTILINE):
        yield from arguments.split()[:-1]


def resolve(value: str) -> str:
    """A value with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def seconds(configuration: str, name: str) -> float:
    """A time of HAProxy's configuration."""
    found = re.search(rf"^\s+(?:.*\s)?{name}\s+(\d+)(ms|s|h)\b", configuration, re.MULTILINE)
    assert found is not None
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "h": 3600.0}[found[2]]
