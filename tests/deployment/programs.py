"""Programs of Debian's packages that these tests run, and what skips a test without one."""

from __future__ import annotations

import os
import shutil

import pytest

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))  # where HAProxy lies, and few people's PATH leads


def find(program: str) -> str | None:
    """Where a program lies, or None."""
    return shutil.which(program, path=_PATH)


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skips a test where the program is not installed."""
    return pytest.mark.skipif(find(program) is None, reason=f"needs {program}: apt-get install {package}")


needs_haproxy = needs("haproxy", "haproxy")
