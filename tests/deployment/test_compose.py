"""docker-compose.yml and the Dockerfile, checked without a container engine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis
import yaml

from service.cameras.camera_file import CameraFile
from service.config import Settings
from tests.deployment.balancer import CONFIGURATION
from tests.deployment.programs import find, needs
from tests.mosquitto import Mosquitto, Subscriber
from tests.service.events.happenings import Counts, happening, running
from tests.waiting import until, wait_for

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE_FILES = (ROOT / "docker-compose.yml", ROOT / "docker" / "tls.yml")
COMPOSE: Mapping[str, Any] = yaml.safe_load(COMPOSE_FILES[0].read_text("utf-8"))
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
REPLICAS = ("posewire", "posewire-gpu")

_NO_SETTINGS = {"POSEWIRE_CATALOGUE", "POSEWIRE_CONFIG", "POSEWIRE_MODELS", "POSEWIRE_SECRETS"}
"""Variables that the server reads before its settings."""


def tool(name: str) -> str:
    """Return the path of a program in the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_the_file_matches_the_compose_specification(path: Path) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_is_lint_clean() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKERFILE)], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", REPLICAS)
def test_the_settings_of_replicas_exist_and_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [key for key in os.environ if key.startswith("POSEWIRE_")]:
        monkeypatch.delenv(variable)
    given = {key: resolve(str(value)) for key, value in SERVICES[name]["environment"].items()}
    for variable, value in given.items():
        assert variable in _NO_SETTINGS or variable.removeprefix("POSEWIRE_").lower() in Settings.model_fields
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("POSEWIRE_SECRETS")  # a folder of the container
    settings = Settings()
    assert settings.redis_url.get_secret_value().startswith("redis://redis:")
    assert settings.port == 8000  # as the load balancer, Prometheus and the health check expect


def test_the_variables_of_the_load_balancer_are_read_by_it() -> None:
    text = CONFIGURATION.read_text("utf-8")
    tls = yaml.safe_load(COMPOSE_FILES[1].read_text("utf-8"))["services"]["haproxy"]
    for variable in (*SERVICES["haproxy"]["environment"], *tls["environment"]):
        assert re.search(rf"\${{?{variable}\b", text)
    for variable, value in SERVICES["haproxy"]["environment"].items():  # the same default in both files
        assert re.search(rf"presetenv {variable} {resolve(value)}\b", text)
    assert tls["environment"]["POSEWIRE_TLS_CERTIFICATE"] == tls["volumes"][0]["target"]


def test_one_address_cannot_use_up_the_capacity_of_a_replica_or_the_load_balancer() -> None:
    text = CONFIGURATION.read_text("utf-8")
    defaults = {name: int(value) for name, value in re.findall(r"presetenv POSEWIRE_CLIENT_(\w+) (\d+)", text)}
    stills, streams, _ = (int(found) for found in re.findall(r"server-template .* maxconn (\d+)", text))
    assert defaults["PENDING"] <= stills / 2
    assert defaults["STREAMS"] <= streams / 2
    front = re.search(r"^    maxconn (\d+)  +# of (\d+)", text, re.MULTILINE)
    assert front is not None
    assert re.search(rf"^    maxconn {front[2]}$", text, re.MULTILINE)
    assert defaults["CONNECTIONS"] <= int(front[1]) / 4


def test_a_replica_has_time_to_drain_and_the_load_balancer_notices_it() -> None:
    text = CONFIGURATION.read_text("utf-8")
    for name in REPLICAS:
        environment = SERVICES[name]["environment"]
        drain, grace = (float(environment[f"POSEWIRE_{part}_SECONDS"]) for part in ("DRAIN", "GRACE"))
        assert seconds(text, "inter") < drain
        assert drain + grace < float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    pings: float = Settings.model_fields["ping_seconds"].default
    assert pings * 2 < seconds(text, "timeout tunnel")


def test_a_hanging_replica_is_detected_within_three_intervals() -> None:
    text = CONFIGURATION.read_text("utf-8")
    interval, once, again = (seconds(text, name) for name in ("inter", "timeout check", "fastinter"))
    assert "fall 2" in text
    assert interval + once + again + once < 3 * interval


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_minimal_rights_and_limited_resources(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["pids"]
    assert "build" in service or re.search(r":v?\d+\.\d+\.\d+", service["image"])  # pinned
    assert "healthcheck" in service or "HEALTHCHECK" in DOCKERFILE.read_text("utf-8")


def test_mounted_and_referenced_files_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file()
            elif source != mount:  # else it is a volume of the container
                assert source in COMPOSE["volumes"]
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= {*COMPOSE["networks"], "default"}
        assert not service.get("ports") or "default" in service["networks"]
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / resolve(secret["file"])).is_file()


@needs("redis-server", "redis-server")
def test_the_store_accepts_its_options_and_writes_nothing_to_disk(tmp_path: Path) -> None:
    [_, *options] = SERVICES["redis"]["command"]
    where = ["--port", "0", "--unixsocket", str(tmp_path / "socket"), "--dir", str(tmp_path)]
    with subprocess.Popen([str(find("redis-server")), *options, *where], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for((tmp_path / "socket").exists)
            with redis.Redis(unix_socket_path=str(tmp_path / "socket")) as client:
                assert client.config_get("save", "maxmemory-policy") == {"save": "", "maxmemory-policy": "volatile-ttl"}
        finally:
            process.terminate()
    assert list(tmp_path.iterdir()) == []


def test_the_mqtt_broker_accepts_its_configuration_and_an_event(tmp_path: Path) -> None:
    text = (ROOT / "docker" / "mosquitto.conf").read_text("utf-8").replace("/mosquitto/data/", f"{tmp_path}/")
    assert SERVICES["mosquitto"]["profiles"] == ["mqtt"]
    assert set(SERVICES["mosquitto"]["networks"]) & set(SERVICES["posewire"]["networks"]) == {"events"}
    broker = Mosquitto(tmp_path, text=text)
    with broker, Subscriber(broker.port, "posewire/#") as heard:
        asyncio.run(_tell(broker, tmp_path))
        wait_for(lambda: len(heard.on("posewire/cameras/door/events")) == 1)


async def _tell(broker: Mosquitto, folder: Path) -> None:
    [recipe] = re.findall(r"<<'END'\n(.*?)^    END$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    file = folder / "cameras.toml"
    file.write_text(dedent(recipe).replace("mosquitto:1883", f"127.0.0.1:{broker.port}"), "utf-8")
    settings = CameraFile.read(file, 10)
    assert list(settings.cameras) == ["door"]
    counts = Counts()
    async with running(folder, settings.event_settings, counts) as events:
        await events.add([happening(1)])
        await until(lambda: counts.got["home"] == 1)


def test_the_public_secrets_are_empty() -> None:
    for secret in COMPOSE["secrets"].values():
        lines = (ROOT / resolve(secret["file"])).read_text("utf-8").splitlines()
        assert all(line.startswith("#") for line in lines)


def test_secrets_made_with_the_commands_of_the_readme_are_never_committed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=alone, check=True, capture_output=True, encoding="utf-8"
        ).stdout

    alone = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    shutil.copytree(ROOT / "docker", tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    for name in (".gitignore", "docker-compose.yml"):
        shutil.copy(ROOT / name, tmp_path)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "a fresh clone")
    committed = set(git("ls-files").split())
    assert {f"docker/no-secrets/{name}" for name in COMPOSE["secrets"]} <= committed

    [commands] = re.findall(
        r"^((?:    .*no-secrets.*\n)(?:    .*\n)*)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True)
    [(variable, folder)] = [line.split("=") for line in (tmp_path / ".env").read_text("utf-8").split()]
    assert variable == "POSEWIRE_SECRETS"
    for name in (*COMPOSE["secrets"], "tls/site.pem", "../../tls.pem", "../k8s/base/api_keys"):
        (tmp_path / folder / name).write_text("secret", "utf-8")
    git("add", "--all")
    assert git("status", "--porcelain") == ""
    assert set(git("ls-files").split()) == committed


def test_services_refer_to_each_other_by_existing_names() -> None:
    assert re.search(r"presetenv POSEWIRE_REPLICAS posewire:8000\b", CONFIGURATION.read_text("utf-8"))
    assert "posewire" in SERVICES["posewire-gpu"]["networks"]["replicas"]["aliases"]
    grafana = yaml.safe_load((ROOT / "docker" / "grafana" / "datasource.yml").read_text("utf-8"))
    assert grafana["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_the_image_is_built_from_files_that_exist_and_are_not_ignored() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied = list(copies())
    assert len(copied) > 5
    for source in copied:
        assert (ROOT / source).exists()
        assert {source, Path(source).parts[0]} & let_through


def copies() -> Iterator[str]:
    """Return the paths that the Dockerfile copies from the repository."""
    for arguments in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE):
        yield from arguments.split()[:-1]


def resolve(value: str) -> str:
    """Return a value with its variables replaced by their defaults."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def seconds(configuration: str, name: str) -> float:
    """Return a time of HAProxy's configuration in seconds."""
    found = re.search(rf"^\s+(?:.*\s)?{name}\s+(\d+)(ms|s|h)\b", configuration, re.MULTILINE)
    assert found is not None
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "h": 3600.0}[found[2]]
