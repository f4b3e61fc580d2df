"""SIGHUP reads API keys and certificates anew, in every worker, and drops no connection."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
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

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's command")


def logged(server: ServerProcess, text: str, times: int = 1) -> None:
    """Wait until the log has said this so often."""
    wait_for(lambda: sum(text in line for line in server.log) >= times)


def patient(**options: Any) -> httpx.Client:
    """A client that keeps its connection however slow the tests are."""
    return httpx.Client(limits=httpx.Limits(keepalive_expiry=600), timeout=60, **options)


def status(server: ServerProcess, key: str, client: httpx.Client | None = None) -> int:
    get = client.get if client else httpx.get
    return get(f"{server.url}/models", headers={"X-API-Key": key}).status_code


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_read_anew_and_no_connection_is_dropped(workers: int, catalogue: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(digest("old"))
    environment = {"api_keys_file": file}
    arguments = ("--model", "tiny", "--workers", str(workers))
    with ServerProcess(*arguments, catalogue=catalogue, environment=environment) as server, patient() as client:
        wait_for(lambda: sum("startup complete" in line for line in server.log) == workers)
        assert status(server, "old", client) == 200
        [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
        file.write_text(f"{digest('new')}  # of the year\n{digest('old')}")
        server.process.send_signal(signal.SIGHUP)
        logged(server, "2 API keys are accepted now", workers)
        for _ in range(4):  # new connections, which reach all workers
            assert status(server, "new") == 200
        file.write_text(digest("new"))
        server.process.send_signal(signal.SIGHUP)
        logged(server, "1 API keys are accepted now", workers)
        assert {status(server, "old") for _ in range(4)} == {401}
        assert status(server, "new", client) == 200
        assert client._transport._pool.connections == [connection]  # type: ignore[attr-defined]
        assert sum("Started server process" in line for line in server.log) == workers, "nobody was restarted"


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
    file.write_text(f"\ufeff{digest('old')}\r\n")
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"api_keys_file": file}) as server:
        yield server, file


def test_streams_of_a_revoked_key_are_ended_and_others_go_on(catalogue: Path, tmp_path: Path, jpeg: bytes) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{digest('kept')}\n{digest('revoked')}\n")

    async def story(server: ServerProcess) -> None:
        async with stream(server.port, key="kept") as kept, stream(server.port, key="revoked") as revoked:
            await kept.ask(jpeg)
            await revoked.ask(jpeg)
            file.write_text(digest("kept"))
            server.process.send_signal(signal.SIGHUP)
            code, reason = await revoked.ending()
            assert code == 4401
            assert "any more" in reason
            assert (await kept.ask(jpeg))["type"] == "result"

    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"api_keys_file": file}) as server:
        asyncio.run(story(server))
        logged(server, "1 streams were ended")


def shown(server: ServerProcess) -> bytes:
    """The certificate that a new connection gets."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((server.host, server.port)))


def der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


@openssl
@pytest.mark.parametrize("workers", [1, 2])
def test_certificates_are_read_anew_and_open_connections_stay(
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
        with patient(verify=server.verify, base_url=server.url) as client:
            assert client.post("/pose", content=jpeg).status_code == 200
            [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
            assert shown(server) == der(first)

            shutil.copy(second, used)  # the key does not fit yet: somebody is in the middle of replacing both
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


@openssl
def test_with_a_certificate_plain_http_gets_no_answer(catalogue: Path, tmp_path: Path, jpeg: bytes) -> None:
    certificate, key = certificates.make(tmp_path, "one")
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    environment = {"tls_certificate": both}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment, trusted=certificate) as server:
        silent = socket.create_connection((server.host, server.port))
        with socket.create_connection((server.host, server.port)) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(1000).startswith(b"HTTP/1.1 200")
        with (
            pytest.raises(ssl.SSLError),
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(
                socket.create_connection((server.host, server.port)), server_hostname="127.0.0.1"
            ),
        ):
            pass
        assert httpx.get(f"{server.url}/livez", verify=server.verify).status_code == 200
        with silent:  # it is closed before uvicorn's own minute is over
            silent.settimeout(40)
            assert silent.recv(1000) == b""


@openssl
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("missing", "cannot be read: No such file"),
        ("no certificate", "are no certificate and key in PEM"),
        ("another key", "is not that of"),
        ("passphrase", "has a passphrase, which nobody could enter"),
        ("key alone", "tls_key needs a certificate"),
    ],
)
def test_files_that_cannot_be_used_are_one_clear_line(
    fault: str, complaint: str, catalogue: Path, tmp_path: Path
) -> None:
    certificate, key = certificates.make(tmp_path, "one")
    if fault == "missing":
        certificate.unlink()
    elif fault == "no certificate":
        certificate.write_text("nonsense")
    elif fault == "another key":
        _, key = certificates.make(tmp_path, "another")
    elif fault == "passphrase":
        certificate, key = certificates.make(tmp_path, "secret", passphrase="sesame")  # noqa: S106
    environment = {"tls_key": key} | ({} if fault == "key alone" else {"tls_certificate": certificate})
    refused = ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment)
    with pytest.raises(RuntimeError) as failure, refused:
        pass
    assert complaint in str(failure.value)
    assert "Traceback" not in str(failure.value)
    assert refused.process.returncode == 2
