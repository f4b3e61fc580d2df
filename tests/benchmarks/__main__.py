"""python -m tests.benchmarks NAME [OPTIONS] runs one benchmark; without a name, all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_NAMES = sorted(
    path.parent.name if path.stem == "__main__" else path.stem
    for path in (*_HERE.glob("*.py"), *_HERE.glob("*/__main__.py"))
    if path != Path(__file__) and 'if __name__ == "__main__"' in path.read_text("utf-8")
)


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named, or every one."""
    if arguments and arguments[0] not in _NAMES:
        print(f"there is no benchmark {arguments[0]!r}; there are {', '.join(_NAMES)}", file=sys.stderr)
        return 2
    failed = 0
    for name in arguments[:1] or _NAMES:
        print(f"--- {name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments[1:]]
        code = subprocess.run(command, check=False).returncode
        failed |= code if arguments or code != 2 else 0  # 2: this machine lacks what it measures, and it has said so
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
