"""All attacks by name, and the right statuses of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.attacks import bodies, connections, files, requests, surfaces, websockets
from tests.benchmarks.attacks.attacker import Attacker

_BUSY = frozenset({"503", "429"})
_LATE = frozenset({"408", "504"})
_BROKEN = frozenset({"400", "413", "415", "422", "431"})
_CLOSED = frozenset({"1001", "1002", "1008", "1009", "1013", "4400", "4408", "4409", "4415", "4422", "4429"})
CUT = frozenset({"cut while sending", "closed without an answer"})


@dataclass(frozen=True, slots=True)
class Attack:
    """run: the attack itself. allowed: HTTP statuses and websocket close codes that it may get; being cut is always
    right, and 5xx for the server's own failure never. endless: has no end, so the server must refuse or cut it."""

    run: Callable[[Attacker], None]
    allowed: frozenset[str]
    endless: bool = False

    def wrong(self, outcomes: Mapping[str, int]) -> list[str]:
        """Describe what is wrong with the outcomes of an attack."""
        statuses = {outcome for outcome in outcomes if outcome.isdigit()}
        found = [f"answered {status}" for status in sorted(statuses - self.allowed)]
        if self.endless and not any(outcome in self.allowed or outcome in CUT for outcome in outcomes):
            found.append("neither refused nor cut")
        return found

    @property
    def name(self) -> str:
        return self.run.__name__


_PARTS: tuple[tuple[frozenset[str], tuple[Callable[[Attacker], None], ...]], ...] = (
    (frozenset(), (connections.nothing,)),
    (
        frozenset({"101", "200", "400", "408", "505"}) | _BUSY,
        (
            connections.idle_connections,
            connections.idle_after_a_request,
            connections.slow_headers,
            connections.never_finished,
            connections.churn,
        ),
    ),
    (_BROKEN | _BUSY | _LATE, (connections.slow_bodies, connections.slow_chunks, bodies.held_bodies)),
    (
        frozenset({"400", "414", "431", "501", "503"}),
        (
            requests.endless_header,
            requests.endless_headers,
            requests.endless_url,
            requests.endless_method,
        ),
    ),
    (
        _BROKEN | _BUSY | _LATE,
        (requests.endless_trailers, requests.endless_chunk_extension, requests.one_byte_chunks),
    ),
    (frozenset({"200", "400", "414", "422", "431"}) | _BUSY, (requests.million_names,)),
    (frozenset({"200"}) | _BUSY, (requests.pipelined_unread, requests.pipelined_read, requests.abandoned_requests)),
    (frozenset({"200"}), (requests.h2c_upgrades,)),
    (frozenset({"200", "504"}) | _BUSY, (requests.more_requests_than_can_be_done,)),
    (
        _BROKEN | _BUSY | _LATE,
        (
            bodies.json_of_many_entries,
            bodies.json_of_many_members,
            bodies.json_without_end,
            bodies.multipart_of_many_parts,
            bodies.multipart_of_long_parts,
        ),
    ),
    (_BROKEN | _BUSY | _LATE, (files.slow_tiffs,)),
    (
        frozenset({"200", "413"}) | _BUSY | _LATE,
        (files.large_pngs, files.large_pngs_of_many_in_one, files.unread_pictures, files.picture_answers),
    ),
    (
        _CLOSED | frozenset({"101"}) | _BUSY,
        (
            websockets.one_byte_messages,
            websockets.empty_messages,
            websockets.acknowledgements,
            websockets.pings,
            websockets.pongs,
            websockets.empty_fragments,
            websockets.small_fragments,
            websockets.unhelloed_pings,
            websockets.unhelloed_streams,
            websockets.broken_frames,
            websockets.large_frames,
            websockets.many_streams,
            websockets.frames_at_full_speed,
            websockets.garbage_tokens,
            websockets.resume_floods,
            websockets.frames_with_most_rules,
            websockets.garbage_video,
            surfaces.result_watchers,
        ),
    ),
    (frozenset({"200"}) | _BUSY, (surfaces.picture_watchers, surfaces.picture_variants)),
    (frozenset({"200", "202", "507"}) | _BUSY | _BROKEN | _LATE, (surfaces.job_readers, surfaces.video_uploads)),
)

_ENDLESS = frozenset(
    {
        requests.endless_header,
        requests.endless_headers,
        requests.endless_url,
        requests.endless_method,
        requests.endless_trailers,
        requests.endless_chunk_extension,
    }
)

ATTACKS: Mapping[str, Attack] = {
    attack.name: attack
    for attack in (Attack(run, allowed, run in _ENDLESS) for allowed, runs in _PARTS for run in runs)
}
"""In the benchmark's order."""
