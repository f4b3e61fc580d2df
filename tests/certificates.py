"""Self-signed certificates, created with OpenSSL's command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path, name: str, *, passphrase: str = "") -> tuple[Path, Path]:
    """Create a certificate for 127.0.0.1 and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    protection = f"-passout pass:{passphrase}" if passphrase else "-noenc"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 {protection} -days 30 -subj /CN={name} "
        f"-addext subjectAltName=IP:127.0.0.1"
    )
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key
