"""Attacks beside good clients: python -m tests.benchmarks attacks [--seconds N] [--only NAME,...] [--way direct]

A server of the default model with default settings, two cores and 2 GiB of memory, once directly and once as two
replicas behind docker/haproxy.cfg. Each attack comes from one address, while other addresses send images, have
streams and probe /livez. `--json FILE` saves each measurement at once. Measurements in the file are not
repeated, so that an interrupted run can continue. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.benchmarks.attacks.deployments import Deployment, Way, deployed
from tests.benchmarks.attacks.good import GoodClients
from tests.benchmarks.attacks.listing import ATTACKS
from tests.benchmarks.attacks.measure import Bench
from tests.benchmarks.attacks.probes import Probes
from tests.benchmarks.attacks.verdict import PROMISES, markdown, missed
from tests.benchmarks.report import Row, machine
from tests.deployment.programs import find
from tests.pictures import astronaut, encoded

_MODEL = "auto"
"""The best default on this machine."""
_WARM_S, _QUIET_S, _AFTER_S = 4.0, 16.0, 4.0


def main() -> int:
    """Measure the chosen attacks, and print one table."""
    options = _arguments()
    rows: list[Row] = (
        json.loads(options.json.read_text("utf-8"))["rows"] if options.json and options.json.is_file() else []
    )
    wanted = [(way, name, options.seconds) for way in options.way for name in options.only]
    done = set(map(_key, rows))
    for way, group in itertools.groupby((each for each in wanted if each not in done), key=lambda each: each[0]):
        if way == "haproxy" and find("haproxy") is None:
            print("behind HAProxy nothing is measured: apt-get install haproxy", file=sys.stderr)
            continue
        for row in _measure(way, [name for _, name, _ in group], options.seconds):
            rows.append(row)
            said = "; ".join(missed(row)) or "all holds"
            print(f"{row['way']} {row['attack']}: {said}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")
    rows = sorted((row for row in rows if _key(row) in wanted), key=lambda row: wanted.index(_key(row)))
    print(machine())
    print(PROMISES + "\n")
    print(markdown(rows))
    return int(any(map(missed, rows)))


def _key(row: Row) -> tuple[Way, str, float]:
    return row["way"], row["attack"], row["seconds"]


def _measure(way: Way, names: Sequence[str], seconds: float) -> Iterator[Row]:
    """Run attacks one after the other on a deployment, which is replaced if an attack breaks it."""
    waiting = list(names)
    while waiting:
        with deployed(way, "--model", _MODEL) as deployment:
            if deployment.groups:
                print(f"{way}: memory limited by {deployment.groups[0].kind}", file=sys.stderr, flush=True)
            picture = encoded(astronaut(), quality=90)
            clients = GoodClients(deployment.host, deployment.port, picture, _people(deployment, picture))
            with clients.running(), Probes(deployment.doors) as probes:
                bench = Bench(deployment, clients, probes)
                bench.rest(_WARM_S)
                bench.quiet = bench.rest(_QUIET_S)
                sound = True
                while waiting and sound:
                    row = bench.attack(waiting.pop(0), seconds, _AFTER_S)
                    yield row
                    sound = not any("after" in promise or "ended" in promise for promise in missed(row))


def _people(deployment: Deployment, picture: bytes) -> int:
    """The number of people in the picture according to the idle server."""
    answer = httpx.post(f"http://{deployment.host}:{deployment.port}/pose", content=picture, timeout=60)
    return len(answer.raise_for_status().json()["people"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long each attack lasts; 60")
    parser.add_argument("--only", type=_names, default=list(ATTACKS), metavar="NAME,...", help=", ".join(ATTACKS))
    parser.add_argument("--way", type=lambda way: [way], default=["direct", "haproxy"], help="direct or haproxy; both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, and go on from them")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if strange := [name for name in names if name not in ATTACKS]:
        raise argparse.ArgumentTypeError(f"there is no attack {', '.join(strange)}; there are {', '.join(ATTACKS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
