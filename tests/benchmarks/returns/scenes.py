"""Scenes of real people on a real background: somebody leaves and comes back, somebody else leaves for good, a stranger
enters, and others stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from engines.poses import Floats, Frame, Poses
from engines.skeletons import COCO_17
from tests.benchmarks.returns.performers import Look, Performer

FPS = 8.0
_SIZE = 640, 480
_SECONDS_IN = 5.0
"""How long somebody who enters is seen."""
_SECONDS_TO_LEAVE = 7.0
"""After these, even who is slow and begins at the other side has left."""
_AWAY = 2.0, 28.0
"""Seconds out of the picture."""
_STAYING = 1, 3
"""Fewest and most people who stay."""
_SPEED = 0.6, 1.0
"""Heights a second, as people walk; more where the real person was faster."""
_HEIGHT = 0.4, 0.55
"""Of a person, in heights of the picture."""
_LIGHT = 0.85, 1.1
"""Brightness at the left and at the right border; some scenes have it the other way round."""
_NOISE = 4.0
_MISSED = 0.03
"""Share of the poses that are not found."""
_JITTER = 0.008
"""Error of a keypoint, in heights."""
_HIDDEN_SCORE = 0.1
_LEAST_SEEN = 0.4
"""Share of a person's keypoints that must be seen for a pose."""
_OTHER_SIDE = {"left": "right", "right": "left"}
_MIRRORED = np.array(
    [
        COCO_17.keypoints.index("_".join(_OTHER_SIDE.get(word, word) for word in name.split("_")))
        for name in COCO_17.keypoints
    ]
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A time that a person spends in the picture. begin, end: seconds. x: where it begins, in pixels. way: +1 to the
    right, -1 to the left. stays: the person turns at the borders instead of leaving. second: whether pictures of the
    second half of the person's sequence are used, not of the first.
    """

    begin: float
    end: float
    x: float
    way: int
    stays: bool
    second: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """A performer with the visits, the height and the line of the feet in pixels."""

    performer: Performer
    visits: Sequence[Visit]
    height: float
    feet: float


@dataclass(frozen=True, slots=True, eq=False)
class SceneFrame:
    """A frame. poses: of the people who were found. roles: (N,) the number of each one's role."""

    seconds: float
    pixels: Frame
    poses: Poses
    roles: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ReturnScene:
    """A scene. The first role leaves and comes back, the second leaves for good, the third is the stranger, and the
    others stay. away: seconds for which the first is out of the picture.
    """

    background: Frame
    roles: Sequence[Role]
    away: float
    seconds: float
    light: tuple[float, float]
    seed: int

    def frames(self) -> Iterator[SceneFrame]:
        """Draw the frames one by one."""
        random = np.random.default_rng(self.seed)
        noise = random.normal(0, _NOISE, (4, *self.background.shape))
        walks = [_Walk(role) for role in self.roles]
        for n in range(round(self.seconds * FPS)):
            pixels = self.background.astype(np.float32)
            owner = np.full(pixels.shape[:2], -1)
            drawn: dict[int, Floats] = {}
            for number in np.argsort([role.feet for role in self.roles], kind="stable").tolist():
                if (put := walks[number].at(n / FPS)) is not None:
                    look, x, y = put
                    drawn[number] = _paste(pixels, owner, number, look, x, y, self.light)
            shown = np.clip(pixels + noise[n % len(noise)], 0, 255).astype(np.uint8)
            yield self._found(n / FPS, shown, owner, drawn, random)

    def _found(
        self,
        seconds: float,
        pixels: Frame,
        owner: NDArray[np.int64],
        drawn: dict[int, Floats],
        random: np.random.Generator,
    ) -> SceneFrame:
        poses, roles = [], []
        for number, points in sorted(drawn.items()):
            seen = points.copy()
            seen[:, :2] += random.normal(0, _JITTER * self.roles[number].height, (len(points), 2))
            x, y = seen[:, 0].round().astype(int), seen[:, 1].round().astype(int)
            inside = (x >= 0) & (y >= 0) & (x < pixels.shape[1]) & (y < pixels.shape[0])
            covers = owner[np.clip(y, 0, pixels.shape[0] - 1), np.clip(x, 0, pixels.shape[1] - 1)]
            visible = inside & ((covers == number) | (covers < 0))
            known = seen[:, 2] > 0
            share = float((visible & known).sum() / known.sum())
            missed = random.random() < _MISSED
            if share < _LEAST_SEEN or missed:
                continue
            seen[~visible, 2] = np.minimum(seen[~visible, 2], _HIDDEN_SCORE)
            limit = np.array([pixels.shape[1], pixels.shape[0]])
            shown = seen[visible & known, :2]
            margin = 0.08 * self.roles[number].height
            box = np.concatenate([shown.min(axis=0) - margin, shown.max(axis=0) + margin])
            box = np.clip(box, 0, np.tile(limit, 2)).astype(np.float32)
            score = np.float32(seen[visible & known, 2].mean() * np.sqrt(share))
            poses.append((seen, box, score))
            roles.append(number)
        if not poses:
            return SceneFrame(seconds, pixels, Poses.empty(COCO_17), np.zeros(0, np.int64))
        points = np.array([seen for seen, _, _ in poses], np.float32)
        boxes, scores = np.array([box for _, box, _ in poses]), np.array([score for _, _, score in poses], np.float32)
        found = Poses(points[..., :2], points[..., 2], boxes, scores, COCO_17)
        return SceneFrame(seconds, pixels, found, np.array(roles))


class _Walk:
    """Where a role is at each time. Times grow by one frame."""

    def __init__(self, role: Role) -> None:
        self._role = role
        talls = [np.ptp(look.points[look.points[:, 2] > 0, 1]) for look in role.performer.looks]
        self._scale = role.height / float(np.median(talls))
        self._visit: Visit | None = None
        self._x = self._way = self._played = 0.0
        self._sprites: dict[tuple[int, bool], Look] = {}

    def at(self, seconds: float) -> tuple[Look, float, float] | None:
        """The picture and the place of its upper left corner; None if the person is away."""
        visit = next((one for one in self._role.visits if one.begin <= seconds < one.end), None)
        if visit is None:
            return None
        if visit is not self._visit:
            self._visit, self._x, self._way, self._played = visit, visit.x, float(visit.way), 0.0
        number = self._look(visit)
        performer = self._role.performer
        step = abs(float(performer.steps[number, 0])) * performer.fps
        pace = np.clip(step, _SPEED[0] * (0.3 if visit.stays else 1), 2 * _SPEED[1])
        self._x += self._way * pace * self._role.height / FPS
        if visit.stays and not 0.15 * _SIZE[0] < self._x < 0.85 * _SIZE[0]:
            self._way = 1.0 if self._x < _SIZE[0] / 2 else -1.0
        self._played += performer.fps / FPS
        sprite = self._sprite(number, self._way != performer.heading)
        body = sprite.points[sprite.points[:, 2] > 0, :2]
        return sprite, self._x - float(body[:, 0].mean()), self._role.feet - float(body[:, 1].max())

    def _look(self, visit: Visit) -> int:
        """Plays half of the pictures forwards and backwards."""
        count = len(self._role.performer.looks)
        half = max(1, count // 2)
        n = int(self._played) % max(1, 2 * half - 2)
        return min(count - 1, (half if visit.second and count > 1 else 0) + (n if n < half else 2 * half - 2 - n))

    def _sprite(self, number: int, mirrored: bool) -> Look:
        key = number, mirrored
        if key not in self._sprites:
            look = self._role.performer.looks[number]
            height, width = look.mask.shape
            size = max(2, round(width * self._scale)), max(2, round(height * self._scale))
            pixels = np.asarray(Image.fromarray(look.pixels).resize(size, Image.Resampling.BILINEAR))
            soft = Image.fromarray(look.mask).resize(size, Image.Resampling.BILINEAR)
            mask = np.asarray(soft.filter(ImageFilter.GaussianBlur(1)))
            points = look.points.copy()
            points[:, :2] *= np.array(size) / [width, height]
            if mirrored:
                pixels, mask = pixels[:, ::-1], mask[:, ::-1]
                points = points[_MIRRORED]
                points[:, 0] = size[0] - 1 - points[:, 0]
            self._sprites[key] = Look(pixels, mask, points)
        return self._sprites[key]


def _paste(
    pixels: Floats, owner: NDArray[np.int64], number: int, look: Look, x: float, y: float, light: tuple[float, float]
) -> Floats:
    """Paint a picture of a person at x, y. Returns the person's points in the frame."""
    left, top = round(x), round(y)
    points = look.points.copy()
    points[:, :2] += [left, top]
    height, width = look.mask.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(pixels.shape[1], left + width), min(pixels.shape[0], top + height)
    if x0 < x1 and y0 < y1:
        part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        share = look.mask[part][..., None].astype(np.float32) / 255
        gain = light[0] + (light[1] - light[0]) * (left + width / 2) / pixels.shape[1]
        place = pixels[y0:y1, x0:x1]
        place += (look.pixels[part] * np.float32(gain) - place) * share
        owner[y0:y1, x0:x1][share[..., 0] > 0.5] = number
    return points


def make_scene(performers: Sequence[Performer], returning: Performer, background: Frame, seed: int) -> ReturnScene:
    """Make up a scene. Everybody else is chosen from the performers."""
    random = np.random.default_rng(seed)
    others = [one for one in performers if one is not returning]
    chosen = random.choice(len(others), 2 + int(random.integers(_STAYING[0], _STAYING[1] + 1)), replace=False)
    leaver, stranger, *staying = [others[n] for n in chosen]
    width, height = _SIZE
    image = Image.fromarray(background).resize(_SIZE, Image.Resampling.BILINEAR)
    away = float(random.uniform(*_AWAY))
    exits = int(random.choice([-1, 1]))
    back = exits if random.random() < 0.6 else -exits
    leaving = _SECONDS_TO_LEAVE
    entry = leaving + float(random.uniform(1, max(1.5, away)))
    seconds = leaving + max(away, entry - leaving) + _SECONDS_IN

    def role(performer: Performer, *visits: Visit) -> Role:
        tall = float(random.uniform(*_HEIGHT)) * height
        return Role(performer, visits, tall, float(random.uniform(0.75, 0.97)) * height)

    def outside(way: int) -> float:
        return -20.0 if way > 0 else width + 20.0

    def inside() -> float:
        return float(random.uniform(0.2, 0.8)) * width

    other_exit, other_way = int(random.choice([-1, 1])), int(random.choice([-1, 1]))
    roles = [
        role(
            returning,
            Visit(0, leaving, inside(), exits, stays=False),
            Visit(leaving + away, seconds, outside(-back), -back, stays=True, second=True),
        ),
        role(leaver, Visit(0, leaving, inside(), other_exit, stays=False)),
        role(stranger, Visit(entry, seconds, outside(other_way), other_way, stays=True)),
        *(role(one, Visit(0, seconds, inside(), int(random.choice([-1, 1])), stays=True)) for one in staying),
    ]
    light = _LIGHT if random.random() < 0.5 else _LIGHT[::-1]
    return ReturnScene(np.asarray(image), roles, away, seconds, light, seed)
