"""TLS: certificates that cannot be used, plain HTTP, and handshakes that never end."""

from __future__ import annotations

import shutil
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from tests import certificates
from tests.servers import ServerProcess

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL's command")


@openssl
def test_with_a_certificate_plain_http_gets_no_answer(catalogue: Path, tmp_path: Path, jpeg: bytes) -> None:
    certificate, key = certificates.make(tmp_path, "one")
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text("utf-8") + key.read_text("utf-8"), "utf-8")
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
def test_unusable_certificates_are_reported_in_one_line(
    fault: str, complaint: str, catalogue: Path, tmp_path: Path
) -> None:
    certificate, key = certificates.make(tmp_path, "one")
    if fault == "missing":
        certificate.unlink()
    elif fault == "no certificate":
        certificate.write_text("nonsense", "utf-8")
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
