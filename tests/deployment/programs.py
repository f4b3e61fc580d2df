"""Programs from Debian packages that these tests run, and the marks that skip a test without one."""

from __future__ import annotations

import os
import shutil

import pytest

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))  # HAProxy is there, and often not on the PATH


def find(program: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(program, path=_PATH)


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if the program is not installed."""
    return pytest.mark.skipif(find(program) is None, reason=f"needs {program}: apt-get install {package}")


needs_haproxy = needs("haproxy", "haproxy")
