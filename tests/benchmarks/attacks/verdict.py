"""The goals during and after an attack, and the table of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.benchmarks.attacks.deployments import LIMIT
from tests.benchmarks.attacks.listing import ATTACKS, Attack
from tests.benchmarks.attacks.measure import FILES, MEMORY, THREADS
from tests.benchmarks.report import Row

FACTOR, FLOOR_MS = 2.0, 50.0
"""Allowed p99 during and after an attack: a factor on the quiet p99, and an addition."""
LIVE_S = 0.5
_OF_HAPROXY = frozenset({"400", "408", "429", "502", "503", "504"})
"""Statuses that HAProxy itself may return to any attack."""

PROMISES = (
    f"p99 of good stills and streams (a frame until its result) under attack and afterwards at most {FACTOR:g} x quiet "
    f"+ {FLOOR_MS:g} ms; /livez within {LIVE_S:g} s; no replica marked down; memory below {LIMIT >> 20} MiB and no OOM "
    "kill; no good request failed; the attack itself gets the statuses that its kind deserves; afterwards at most "
    f"{FILES} descriptors, {THREADS} threads and {MEMORY // 10**6} MB more than before, of all replicas together."
)


def missed(row: Row) -> list[str]:
    """Describe the goals that a measurement misses."""
    found = []
    for kind in ("stills", "streams"):
        bound = FACTOR * row[f"{kind} quiet p99"] + FLOOR_MS
        if not row[f"{kind} p99"] <= bound:
            found.append(f"{kind} p99 {row[f'{kind} p99']:.0f} ms")
        late = row[f"after {kind} p99"]
        if late is not None and not late <= bound:
            found.append(f"{kind} p99 {late:.0f} ms afterwards")
    if row["livez s"] > LIVE_S:
        found.append(f"/livez {row['livez s']:.2f} s")
    if row["downs"]:
        found.append(f"marked down {row['downs']} times")
    if row["OOM kills"] or row["memory MB"] * 1e6 >= LIMIT:
        found.append(f"memory {row['memory MB']} MB, {row['OOM kills']} OOM kills")
    if not row["alive"]:
        found.append("a server process ended")
    if row["problems"]:
        found.append(f"{sum(row['problems'].values())} of {row['requests']} good requests failed")
    if row["after problems"]:
        found.append(f"{sum(row['after problems'].values())} failed afterwards")
    for name, bound in (("files more", FILES), ("threads more", THREADS), ("MB more", MEMORY / 1e6)):
        if row[name] is not None and row[name] > bound:
            found.append(f"{row[name]} {name} afterwards")
    return [*found, *_attack(row).wrong(row["attacker got"])]


def _attack(row: Row) -> Attack:
    """The attack of a measurement, with its right answers."""
    attack = ATTACKS[row["attack"]]
    if row["way"] == "direct" or attack.allowed == {"200"}:
        return attack
    return replace(attack, allowed=attack.allowed | _OF_HAPROXY)


_COLUMNS = (
    "attack | way | stills p50/p99 quiet, ms | under attack | ratio | frames p99 quiet, ms | under attack | "
    "good requests failed | slowest /livez, s | memory, MB (OOM kills) | marked down | stills p99 after, ms | "
    "files, threads, MB more after | attacker's CPU, % | missed"
)


def markdown(rows: Sequence[Row]) -> str:
    """Format all measurements as one table."""
    head = [f"| {_COLUMNS} |", "|" + "---|" * (_COLUMNS.count("|") + 1)]
    return "\n".join([*head, *map(_line, rows)])


def _line(row: Row) -> str:
    after = row["after stills p99"]
    left = [row["files more"], row["threads more"], row["MB more"]]
    cells = (
        row["attack"].replace("_", " "),
        row["way"],
        f"{row['stills quiet p50']:.0f} / {row['stills quiet p99']:.0f}",
        f"{row['stills p50']:.0f} / {row['stills p99']:.0f}",
        f"{row['stills p99'] / row['stills quiet p99']:.1f}",
        f"{row['streams quiet p99']:.0f}",
        f"{row['streams p99']:.0f}",
        f"{sum(row['problems'].values())} of {row['requests']}",
        f"{row['livez s']:.2f}",
        f"{row['memory MB']} ({row['OOM kills']})",
        row["downs"],
        "ended" if after is None else f"{after:.0f}",
        "ended" if None in left else ", ".join(f"{number:+d}" for number in left),
        f"{row['attacker CPU %']:.0f}",
        "; ".join(missed(row)) or "-",
    )
    return "| " + " | ".join(map(str, cells)) + " |"
