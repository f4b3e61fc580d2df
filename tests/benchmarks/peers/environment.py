"""Virtual environments for peers, in .posewire/peers, so that their packages do not get into the project's."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_PEERS = ROOT / ".posewire/peers"


def peer_python(name: str, *requirements: str, shares: bool = False) -> Path:
    """The interpreter of the environment `name` with `requirements` installed from PyPI; created if missing.

    shares: it also sees the packages of this environment, after its own.
    """
    home = _PEERS / name
    python, stamp = home / "bin/python", home / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return python
    print(f"installing {', '.join(requirements)} into {home}", file=sys.stderr)
    venv.create(home, clear=True, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements], check=True)
    if shares:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (home / "lib" / version / "site-packages/shared.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    stamp.write_text(wanted, "utf-8")  # last: an installation that broke off is made again
    return python
