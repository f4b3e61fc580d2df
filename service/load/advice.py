"""What follows from the steps: how much the deployment holds, which stage limits it, and which setting to turn."""

from __future__ import annotations

from collections.abc import Sequence

from service.load.samples import PARTS, Step

_LATE_MS = 20.0
"""If this generator is later than this, its own machine is the limit."""
_BUSY = 0.4
"""A network that is busy for this share of the time is the limit."""
_HELD = 0.99
"""A load is held if this share of it gets a result."""
_STREAMS_HELD = 0.9

_SETTINGS = {
    "infer": "a faster or smaller model (--model; posewire build MODEL --precision int8), a GPU, or more replicas",
    "prepare": "smaller JPEGs: sides of 1280 pixels are enough for most; PNG and WebP take longer; more cores",
    "decode": "a lower max_people or a higher min_score, or a model that gives fewer keypoints",
    "track": "more processes for trackers (trackers), or fewer frames a second from each stream",
    "serialise": "a lower max_people or skeleton=coco-17; streams can ask for msgpack",
    "network": "connections that are kept open, smaller pictures, or a shorter way; if the server's processor is fully "
    "used, more server processes (workers) or replicas",
}
_MEANS = {
    "infer": "running the networks",
    "prepare": "decoding pictures and cutting out people",
    "decode": "reading the networks' outputs",
    "track": "tracking",
    "serialise": "writing results",
    "network": "HTTP and the way to the server, with this generator",
}


def advise(steps: Sequence[Step], people: float) -> list[str]:
    """Return the conclusions as lines for the user, the most important first. people: in a picture, on average."""
    lines = [*_capacity(steps), *_generator(steps), *_refusals(steps)]
    lines.append(f"The server finds {people:.3g} people in a picture; give pictures like yours with --image.")
    stills = [step for step in steps if step.kind != "streams"]
    streams = [step for step in steps if step.kind == "streams"]
    for what, some in (("stills", stills), ("streams", streams)):
        if some:
            lines += _limit(what, max(some, key=lambda step: step.rate))
    return lines


def _capacity(steps: Sequence[Step]) -> list[str]:
    lines = []
    held = [step for step in steps if step.kind == "open" and step.share >= _HELD]
    if held:
        best = max(held, key=lambda step: step.load)
        lines.append(f"It holds {best.load:.1f} images a second: p50 {best.p50:.0f} ms, p99 {best.p99:.0f} ms.")
    streams = [step for step in steps if step.kind == "streams"]
    good = [step for step in streams if step.share >= _STREAMS_HELD]
    if good:
        best = max(good, key=lambda step: step.load)
        each = best.rate / best.load
        lines.append(
            f"It holds {best.load:g} streams with {each:.1f} results a second each: p50 {best.p50:.0f} ms, "
            f"p99 {best.p99:.0f} ms."
        )
    elif streams:
        first = streams[0]
        lines.append(f"One stream gets {first.rate:.1f} results a second; its other frames are dropped, as intended.")
    return lines


def _generator(steps: Sequence[Step]) -> list[str]:
    if max(step.late_ms for step in steps) <= _LATE_MS:
        return []
    return [
        f"This machine sent requests up to {max(step.late_ms for step in steps):.0f} ms too late (p99), so it limits "
        "the figures itself: run this command on another machine than the server's."
    ]


def _refusals(steps: Sequence[Step]) -> list[str]:
    lines = []
    statuses = {status for step in steps for status in step.statuses}
    if 429 in statuses:
        lines.append(
            "Some requests got 429: one client may use only a part of a server (client_share; behind HAProxy also "
            "POSEWIRE_CLIENT_PENDING). Many clients together get more than these figures."
        )
    if 503 in statuses:
        lines.append("Some requests got 503, as they could not have been answered in time: that is where it is full.")
    if 0 in statuses:
        lines.append("Some requests got no answer; the server's log, or the load balancer's, says why.")
    return lines


def _limit(what: str, step: Step) -> list[str]:
    """Name what limits the step with the highest rate."""
    at = f"{what} at their best rate ({step.rate:.1f} a second)"
    busiest = max(step.networks, key=lambda name: step.networks[name].busy, default=None)
    parts = {part: step.parts.get(part, 0.0) for part in PARTS if part != "queue"}
    slowest = max(parts, key=lambda part: parts[part])
    if busiest is not None and step.networks[busiest].busy >= _BUSY:
        use = step.networks[busiest]
        line = (
            f"The network {busiest} limits {at}: batches of it run for {use.busy:.2f} s of each second, "
            f"{use.batch:.1f} in a batch, and items wait {use.wait_ms:.0f} ms for one. It takes {_SETTINGS['infer']}"
        )
        if what == "streams" and "det" in busiest:
            line += "; or a longer detect_every"
        return [f"{line}."]
    whole = sum(step.parts.values())
    if not whole:
        return []
    queue = step.parts.get("queue", 0.0)
    largest = "The largest part" if queue < parts[slowest] else f"After waiting ({queue:.1f} ms), the largest part"
    return [
        f"{largest} of the latency of {at} is {_MEANS[slowest]} ({slowest}: {parts[slowest]:.1f} of {whole:.1f} ms). "
        f"It takes {_SETTINGS[slowest]}."
    ]
