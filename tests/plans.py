"""The scenes that tracking is tested on: what goes wrong in real streams, one at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.scenes import HEIGHT, PERFECT, WIDTH, Detector, Path, Person, Plan


def walk(x: float, y: float, vx: float, vy: float = 0.0) -> Path:
    """A straight line from (x, y) at (vx, vy) pixels a second."""
    return lambda t: (x + vx * t, y + vy * t)


def wander(rng: np.random.Generator, x: float, y: float, speed: float) -> Path:
    """Back and forth around (x, y), at up to `speed` pixels a second, each in their own rhythm."""
    period, phase = rng.uniform(4, 9, 2), rng.uniform(0, 2 * np.pi, 2)
    reach = speed * period / (2 * np.pi)
    return lambda t: (
        x + reach[0] * float(np.sin(2 * np.pi * t / period[0] + phase[0])),
        y + 0.2 * reach[1] * float(np.sin(2 * np.pi * t / period[1] + phase[1])),
    )


def crossing(seed: int, detector: Detector = PERFECT) -> Plan:
    """Four people walk through each other, two from each side."""
    rng = np.random.default_rng([seed, 1])
    people = []
    for n in range(4):
        towards = 1 if n % 2 else -1
        speed = rng.uniform(45, 85) * towards
        start = WIDTH / 2 - speed * rng.uniform(1.5, 3)
        people.append(Person(rng.uniform(70, 110), walk(start, HEIGHT * rng.uniform(0.48, 0.6), speed)))
    return Plan(people, 5.0, detector=detector)


def missed(seed: int) -> Plan:
    """As crossing, but every fifth detection is missing and all are inexact."""
    return crossing(seed, Detector(missed=0.2))


def occluded(seed: int) -> Plan:
    """Somebody walks behind a pillar and is out of sight for 2 s; two others are about, one in front of it."""
    rng = np.random.default_rng([seed, 2])
    tall, speed = rng.uniform(75, 100), rng.uniform(30, 60)
    hidden = 2.0 * speed + tall * 0.42  # all of them is hidden for 2 s
    left = WIDTH / 2 - hidden / 2
    sway = rng.uniform(0, 6)
    walker = Person(tall, lambda t: (left - speed * 1.5 + speed * t, HEIGHT * 0.5 + 2 * float(np.sin(sway + 3 * t))))
    near = Person(rng.uniform(100, 120), walk(WIDTH + 20, HEIGHT * 0.6, -rng.uniform(30, 70)))
    aside = Person(rng.uniform(60, 80), wander(rng, WIDTH - 40, HEIGHT * 0.45, 12))
    plan = Plan([walker, aside, near], 1.5 + hidden / speed + 2.0, detector=Detector(noise=0.2))
    return Plan(plan.people, plan.seconds, pillars=[(left, left + hidden)], detector=plan.detector)


def returning(seed: int) -> Plan:
    """Somebody walks out of the picture and comes back 2 s later; another stays."""
    rng = np.random.default_rng([seed, 3])
    speed, turn = rng.uniform(60, 90), rng.uniform(2.0, 2.5)

    def there_and_back(t: float) -> tuple[float, float]:
        return WIDTH + 20 - speed * abs(t - turn), HEIGHT * 0.5

    stays = Person(85, wander(rng, WIDTH * 0.3, HEIGHT * 0.5, 25))
    return Plan([Person(90, there_and_back), stays], turn + 2.5)


def panning(seed: int) -> Plan:
    """The camera turns and shakes while people walk and cross, and every tenth detection is missing."""
    rng = np.random.default_rng([seed, 4])
    rate, phase = rng.uniform(20, 60) * rng.choice([-1, 1]), rng.uniform(0, 6, 3)

    def camera(t: float) -> tuple[float, float]:
        shake = 5 * float(np.sin(9 * t + phase[0])) + 3 * float(np.sin(23 * t + phase[1]))
        return rate * (t - 2.5) + shake, 5 * float(np.sin(13 * t + phase[2]))

    people = [
        Person(rng.uniform(70, 100), walk(WIDTH * (0.1 + 0.25 * n), HEIGHT * 0.5, rate * 0.5 + rng.uniform(-35, 35)))
        for n in range(4)
    ]
    return Plan(people, 5.0, camera=camera, detector=Detector(missed=0.1))


def jittery(seed: int) -> Plan:
    """Inexact poses, ghosts, and people close together."""
    rng = np.random.default_rng([seed, 5])
    people = [
        Person(rng.uniform(70, 90), wander(rng, WIDTH * (0.25 + 0.17 * n), HEIGHT * 0.5, rng.uniform(10, 30)))
        for n in range(4)
    ]
    return Plan(people, 5.0, detector=Detector(noise=0.7, missed=0.1, ghosts=0.3))


def gaps(seed: int) -> Plan:
    """Frames fail to come, up to 0.8 s in a row, while people walk."""
    rng = np.random.default_rng([seed, 6])
    starts = np.sort(rng.uniform(0.5, 5, 4))
    lengths = rng.uniform(0.3, 0.8, 4)
    people = [
        Person(rng.uniform(70, 90), walk(WIDTH * (0.15 + 0.23 * n), HEIGHT * 0.5, float(rng.uniform(-30, 30))))
        for n in range(4)
    ]
    lost = lambda t: bool(((t > starts) & (t < starts + lengths)).any())  # noqa: E731
    return Plan(people, 6.0, skipped=lost, detector=Detector(missed=0.05))


def disconnected(seed: int) -> Plan:
    """Four people wander about; nothing arrives for 5 s in the middle."""
    rng = np.random.default_rng([seed, 7])
    people = [
        Person(rng.uniform(65, 100), wander(rng, WIDTH * (0.14 + 0.24 * n), HEIGHT * 0.5, rng.uniform(5, 40)))
        for n in range(4)
    ]
    return Plan(people, 9.0, skipped=lambda t: 2.0 < t < 7.0)


PLANS: dict[str, Callable[[int], Plan]] = {
    plan.__name__: plan for plan in (crossing, missed, occluded, returning, panning, jittery, gaps, disconnected)
}
