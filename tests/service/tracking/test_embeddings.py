"""Embeddings of people: which are asked for, how they are kept, and what they say about who comes back."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats, Poses
from engines.skeletons import COCO_17
from service.tracking import PoseTracker, TrackerConfig
from service.tracking.embeddings import EmbeddingSpace, add_evidence, learn, pack
from tests.service.tracking.test_gallery import GREEN, RED, frame, show

SPACE = EmbeddingSpace("osnet", 4, 0.5, 16.0)
ANNA, BERTA = np.array([[1, 2, 0, 0]], np.float32), np.array([[0, 0, 1, -1]], np.float32)
UNKNOWN = np.zeros((1, 4), np.float32)


def test_only_the_direction_of_an_embedding_counts() -> None:
    people = np.concatenate([pack(ANNA), pack(7 * BERTA), pack(UNKNOWN)])
    none = np.zeros((3, 2), np.float32)
    evidence = add_evidence(none, people, np.concatenate([pack(3 * ANNA), pack(UNKNOWN)]), SPACE)
    assert evidence[0, 0] > 5
    assert evidence[1, 0] < -5
    assert not evidence[2].any()
    assert not evidence[:, 1].any()


def test_pictures_of_a_person_are_averaged_and_unknown_ones_left_out() -> None:
    people = np.zeros((2, 4), np.int8)
    for vectors in (np.concatenate([ANNA, BERTA]), np.concatenate([UNKNOWN, ANNA])):
        learn(people, np.array([0, 1]), vectors)
    assert people[0].tolist() == pack(ANNA)[0].tolist()
    assert people[1, :2].all()
    assert people[1, 2:].all()


def walk(tracker: PoseTracker, start: float, seconds: float, looks: Floats, x: float, speed: float) -> tuple[int, int]:
    """Show somebody in red, whose embedding is `looks`, at ten frames a second, beside somebody in green.

    Returns the last id, and how often the embedding was asked for.
    """
    number, asked = -1, 0
    for n in range(round(seconds * 10)):
        middle = x + n / 10 * speed
        ids = show(tracker, start + n / 10, (320, GREEN), *([(middle, RED)] if middle > -30 else []))
        boxes = tracker.look_at()
        of_red = boxes[:, 0] < 250
        asked += int(of_red.sum())
        tracker.embed(np.where(of_red[:, None], looks, [[0, 0, 3, 1]]).astype(np.float32))
        number = ids[1] if len(ids) > 1 else number
    return number, asked


def test_who_returns_is_known_by_the_embedding_and_who_only_wears_the_same_is_not() -> None:
    for looks, expected in ((ANNA, 2), (BERTA, 3)):
        tracker = PoseTracker(COCO_17, TrackerConfig(embedder=SPACE))
        first, asked = walk(tracker, 0, 4, ANNA, 200, -80)
        assert first == 2
        assert 1 <= asked <= 4  # once at first, and then every two seconds
        assert walk(tracker, 10, 1.5, looks, 60, 0)[0] == expected


def test_a_tracker_without_an_embedder_asks_for_nothing() -> None:
    tracker = PoseTracker(COCO_17)
    show(tracker, 0, (200, RED))
    assert not len(tracker.look_at())


def test_a_newcomer_waits_for_the_embedding_and_not_for_ever() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(embedder=SPACE))
    walk(tracker, 0, 4, ANNA, 200, -80)
    ids = []
    for n in range(12):  # no embedding comes any more
        found = show(tracker, 10 + n / 10, (320, GREEN), (60, RED))
        ids.append(found[1])
        assert len(tracker.look_at()) or ids[-1] > 0
    assert ids[0] == -1
    assert ids[-1] == 2  # by the colours


def test_a_state_keeps_embeddings_of_the_same_network_only() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(embedder=SPACE))
    walk(tracker, 0, 4, ANNA, 200, -80)
    state = tracker.state()
    assert state.absent is not None
    assert state.absent.embeddings.any()
    other = EmbeddingSpace("other", 6, 0.5, 16.0)
    for space, kept in ((SPACE, True), (other, False), (None, False)):
        tracker = PoseTracker(COCO_17, TrackerConfig(embedder=space))
        tracker.restore(state)
        again = tracker.state()
        assert again.absent is not None
        assert bool(again.absent.embeddings.any()) == kept
        tracker.embed(ANNA)  # for people of the tracker before: dropped
        tracker.update(Poses.empty(COCO_17), frame(), 20)
