"""SIGHUP reloads API keys and certificates in every worker, and drops no connection."""

from __future__ import annotations

import asyncio
import shutil
import signal
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.security import digest
from tests import certificates
from tests.servers import ServerProcess
from tests.streaming import stream
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's command")


def logged(server: ServerProcess, text: str, times: int = 1) -> None:
    """Wait until at least `times` lines of the log contain the text."""
    wait_for(lambda: sum(text in line for line in server.log) >= times)


def persistent_client(**options: Any) -> httpx.Client:
    """A client that keeps its connection even if the tests are slow."""
    return httpx.Client(limits=httpx.Limits(keepalive_expiry=600), timeout=60, **options)


def status(server: ServerProcess, key: str, client: httpx.Client | None = None) -> int:
    get = client.get if client else httpx.get
    return get(f"{server.url}/models", headers={"X-API-Key": key}).status_code


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_reloaded_and_no_connection_is_dropped(workers: int, catalogue: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(digest("old"), "utf-8")
    environment = {"api_keys_file": file}
    arguments = ("--model", "tiny", "--workers", str(workers))
    with (
        ServerProcess(*arguments, catalogue=catalogue, environment=environment) as server,
        persistent_client() as client,
    ):
        wait_for(lambda: sum("startup complete" in line for line in server.log) == workers)
        assert status(server, "old", client) == 200
        [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
        file.write_text(f"{digest('new')}  # of the year\n{digest('old')}", "utf-8")
        server.process.send_signal(signal.SIGHUP)
        logged(server, "2 API keys are accepted now", workers)
        for _ in range(4):  # new connections, which reach all workers
            assert status(server, "new") == 200
        file.write_text(digest("new"), "utf-8")
        server.process.send_signal(signal.SIGHUP)
        logged(server, "1 API keys are accepted now", workers)
        assert {status(server, "old") for _ in range(4)} == {401}
        assert status(server, "new", client) == 200
        assert client._transport._pool.connections == [connection]  # type: ignore[attr-defined]
        assert sum("Started server process" in line for line in server.log) == workers, "no worker was restarted"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f"{digest('other')}\nsecret-key-in-clear".encode(), "line 2 of"),
        (b"\xff\xfe\x00", "is no UTF-8 text"),
        (b"# nothing yet\n", "has no keys, which would let everybody in"),
        (None, "No such file"),
    ],
)
def test_a_damaged_file_of_keys_changes_nothing(
    keyed: tuple[ServerProcess, Path], content: bytes | None, complaint: str
) -> None:
    server, file = keyed
    before = len(server.log)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any("the API keys stay as they were" in line for line in server.log[before:]))
    [line] = [line for line in server.log[before:] if "the API keys stay" in line]
    assert complaint in line
    assert "secret" not in line
    assert status(server, "old") == 200
    assert status(server, "other") == 401


@pytest.fixture(scope="module")
def keyed(catalogue: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"\ufeff{digest('old')}\r\n", "utf-8")
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"api_keys_file": file}) as server:
        yield server, file


def test_streams_of_a_revoked_key_are_ended_and_others_continue(catalogue: Path, tmp_path: Path, jpeg: bytes) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{digest('kept')}\n{digest('revoked')}\n", "utf-8")

    async def scenario(server: ServerProcess) -> None:
        async with stream(server.port, key="kept") as kept, stream(server.port, key="revoked") as revoked:
            await kept.ask(jpeg)
            await revoked.ask(jpeg)
            file.write_text(digest("kept"), "utf-8")
            server.process.send_signal(signal.SIGHUP)
            code, reason = await revoked.ending()
            assert code == 4401
            assert "any more" in reason
            assert (await kept.ask(jpeg))["type"] == "result"

    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"api_keys_file": file}) as server:
        asyncio.run(scenario(server))
        logged(server, "1 streams were ended")


def shown(server: ServerProcess) -> bytes:
    """Return the certificate of a new connection."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((server.host, server.port)))


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="utf-8"))


@openssl
@pytest.mark.parametrize("workers", [1, 2])
def test_certificates_are_reloaded_and_open_connections_stay(
    workers: int, catalogue: Path, tmp_path: Path, jpeg: bytes
) -> None:
    first, first_key = certificates.make(tmp_path, "first")
    second, second_key = certificates.make(tmp_path, "second")
    used, key = tmp_path / "used.crt", tmp_path / "used.key"
    shutil.copy(first, used)
    shutil.copy(first_key, key)
    environment = {"tls_certificate": used, "tls_key": key}
    arguments = ("--model", "tiny", "--workers", str(workers))
    with ServerProcess(*arguments, catalogue=catalogue, environment=environment, trusted=first) as server:
        wait_for(lambda: sum("startup complete" in line for line in server.log) == workers)
        with persistent_client(verify=server.verify, base_url=server.url) as client:
            assert client.post("/pose", content=jpeg).status_code == 200
            [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
            assert shown(server) == der(first)

            shutil.copy(second, used)  # the key does not match yet, as while both files are being replaced
            server.process.send_signal(signal.SIGHUP)
            logged(server, "the certificate stays as it was: the key in", workers)
            assert {shown(server) for _ in range(4)} == {der(first)}

            shutil.copy(second_key, key)
            server.process.send_signal(signal.SIGHUP)
            logged(server, "new connections get the certificate in", workers)
            assert {shown(server) for _ in range(4)} == {der(second)}

            assert client.post("/pose", content=jpeg).status_code == 200
            assert client._transport._pool.connections == [connection]  # type: ignore[attr-defined]

            used.unlink()
            server.process.send_signal(signal.SIGHUP)
            logged(server, "cannot be read: No such file", workers)
            assert shown(server) == der(second)
