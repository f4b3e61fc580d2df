"""The contract of a tracker, with and without pixels."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17, POSETRACK_15, Skeleton
from service.tracking import UNCONFIRMED, PoseTracker, TrackerConfig
from tests.service.tracking.people import people, wall

A, B = (60.0, 80.0), (200.0, 90.0)


def ids(poses: Poses) -> list[int]:
    assert poses.ids is not None
    return poses.ids.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("assignment", ["greedy", "optimal"])
@pytest.mark.parametrize("skeleton", [COCO_17, POSETRACK_15, BLAZEPOSE_33], ids=lambda s: s.name)
def test_people_keep_their_ids_in_any_order(skeleton: Skeleton, assignment: str) -> None:
    tracker = PoseTracker(skeleton, TrackerConfig(assignment=assignment))  # type: ignore[arg-type]
    assert ids(tracker.update(people([A, B], skeleton=skeleton), None, 0.0)) == [1, 2]
    assert ids(tracker.update(people([B, A], skeleton=skeleton), None, 0.1)) == [2, 1]


def test_only_ids_are_added() -> None:
    tracker, given = PoseTracker(COCO_17), people([A, B], keypoint_score=0.1)
    before = [getattr(given, field.name) for field in dataclasses.fields(Poses)]
    copies = [value.copy() if isinstance(value, np.ndarray) else value for value in before]
    for now in (0.0, 0.1):
        result = tracker.update(given, wall(), now)
        for field, copy in zip(dataclasses.fields(Poses), copies, strict=True):
            if field.name != "ids":
                np.testing.assert_equal(getattr(result, field.name), copy)
                np.testing.assert_equal(getattr(given, field.name), copy)
        assert not tracker.filled.any()
    assert given.ids is None


def test_without_pixels_crossing_people_are_tracked_by_motion() -> None:
    tracker = PoseTracker(COCO_17)
    for n in range(31):
        result = tracker.update(people([(50 + 6 * n, 80), (230 - 6 * n, 84)]), None, n / 15)
        assert ids(result) == [1, 2]


def test_ids_are_never_reused_and_belong_to_the_instance() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(lost_seconds=1.0))
    assert ids(tracker.update(people([A]), None, 0.0)) == [1]
    for n in range(1, 30):
        tracker.update(people([]), None, n / 10)
    assert ids(tracker.update(people([A]), None, 3.0)) == [2]
    assert ids(PoseTracker(COCO_17).update(people([A]), None, 0.0)) == [1]


def test_two_trackers_of_the_same_frames_agree() -> None:
    rng = np.random.default_rng(1)
    frames = [people(rng.uniform((30, 60), (300, 120), (6, 2)).tolist()) for _ in range(10)]
    first, second = PoseTracker(COCO_17), PoseTracker(COCO_17)
    for n, poses in enumerate(frames):
        picture = wall(n % 3)
        assert ids(first.update(poses, picture, n / 10)) == ids(second.update(poses, picture, n / 10))


class TestBirth:
    def test_a_weak_pose_becomes_a_person_only_with_time(self) -> None:
        tracker = PoseTracker(COCO_17, TrackerConfig(birth_score=0.5, confirm_seconds=0.3))
        given = [ids(tracker.update(people([A], scores=0.4), None, n / 10))[0] for n in range(5)]
        assert given == [UNCONFIRMED, UNCONFIRMED, UNCONFIRMED, 1, 1]

    def test_a_weak_pose_that_flickers_never_does(self) -> None:
        tracker = PoseTracker(COCO_17)
        for n in range(20):
            poses = people([A] if n % 2 else [], scores=0.4)
            assert UNCONFIRMED in ids(tracker.update(poses, None, n / 5)) or not len(poses)
        assert not tracker.tracks

    def test_a_weak_pose_of_a_known_person_is_theirs(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 0.0)
        assert ids(tracker.update(people([A], scores=0.1), None, 0.1)) == [1]

    def test_who_is_hardly_seen_does_not_take_the_pose_of_a_newcomer_beside(self) -> None:
        tracker, beside = PoseTracker(COCO_17), (A[0] + 45, A[1])
        tracker.update(people([A]), None, 0.0)
        for n in (1, 2):
            assert ids(tracker.update(people([A, beside], scores=[0.9, 0.4]), None, n / 10)) == [1, UNCONFIRMED]
        assert ids(tracker.update(people([A, beside], scores=[0.4, 0.9]), None, 0.3)) == [1, 2]

    def test_a_second_pose_of_a_person_is_nobody(self) -> None:
        tracker = PoseTracker(COCO_17)
        near = (A[0] + 1, A[1])
        assert ids(tracker.update(people([A, near], scores=[0.8, 0.9]), None, 0.0)) == [UNCONFIRMED, 1]
        assert sorted(ids(tracker.update(people([A, near]), None, 0.1))) == [UNCONFIRMED, 1]


class TestTime:
    def test_the_same_timestamp_is_the_same_instant(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 5.0)
        assert ids(tracker.update(people([A]), None, 5.0)) == [1]
        assert tracker.tracks[0].velocity == (0.0, 0.0)
        assert tracker.tracks[0].age == 0

    def test_time_does_not_run_backwards(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 5.0)
        with pytest.raises(ValueError, match="before the last one"):
            tracker.update(people([A]), None, 4.9)
        with pytest.raises(ValueError, match="number of seconds"):
            tracker.propose(None, float("nan"))
        assert ids(tracker.update(people([A]), None, 5.1)) == [1]

    @pytest.mark.parametrize("fps", [2, 25])
    def test_one_missed_pose_leaves_a_person_in_sight_at_any_frame_rate(self, fps: int) -> None:
        tracker = PoseTracker(COCO_17)
        for n in range(5):
            tracker.update(people([A, B]), None, n / fps)
        tracker.update(people([A]), None, 5 / fps)
        assert len(tracker.propose(None, 6 / fps)) == 2
        assert ids(tracker.update(people([A, B], scores=[0.9, 0.1]), None, 6 / fps)) == [1, 2]

    def test_a_gap_between_frames_does_not_lose_anybody(self) -> None:
        tracker = PoseTracker(COCO_17, TrackerConfig(lost_seconds=2.0))
        tracker.update(people([A, B]), None, 0.0)
        assert ids(tracker.update(people([B, A]), None, 20.0)) == [2, 1]

    def test_but_not_for_ever(self) -> None:
        tracker = PoseTracker(COCO_17, TrackerConfig(forget_seconds=10.0))
        tracker.update(people([A]), None, 0.0)
        tracker.update(people([]), None, 10.5)
        assert not tracker.tracks

    def test_the_longest_unseen_make_room(self) -> None:
        tracker = PoseTracker(COCO_17, TrackerConfig(max_tracks=2))
        for n in range(5):
            tracker.update(people([(100.0 + 500 * n, 80.0)]), None, n / 10)
        assert [track.id for track in tracker.tracks] == [4, 5]


class TestFlow:
    def test_flow_holds_people_whom_the_camera_shakes_away(self) -> None:
        with_flow = PoseTracker(COCO_17)
        for n, shift in enumerate([0, 30, -20, 35, 0, -30]):
            poses = people([(100.0 + shift, 80), (160.0 + shift, 80)])
            assert ids(with_flow.update(poses, wall(shift), n / 10)) == [1, 2]

    @pytest.mark.parametrize("camera", [(25, 50, 75, 95), (-20, 25, -20, 20)], ids=["panned", "shaken"])
    def test_people_who_are_missed_while_the_camera_moves_keep_their_ids(self, camera: tuple[int, ...]) -> None:
        tracker = PoseTracker(COCO_17)
        for n in range(3):
            tracker.update(people([(40, 80), (150, 84)]), wall(width=480), n / 10)
        for n, shift in enumerate(camera[:3]):
            tracker.update(people([(150.0 + shift, 84)]), wall(shift, width=480), 0.3 + n / 10)
        found = tracker.update(
            people([(40.0 + camera[3], 80), (150.0 + camera[3], 84)]), wall(camera[3], width=480), 0.6
        )
        assert ids(found) == [1, 2]

    def test_proposals_are_where_flow_carries_people(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A, B], scores=[0.6, 0.9]), wall(), 0.0)
        proposed = tracker.propose(wall(12), 0.1)
        middles = (proposed.boxes[:, :2] + proposed.boxes[:, 2:]) / 2
        np.testing.assert_allclose(middles[:, 0], [B[0] + 12, A[0] + 12], atol=4)

    def test_a_proposal_has_the_score_of_the_box_in_which_the_pose_was_found(self) -> None:
        tracker = PoseTracker(COCO_17)
        seen = people([A, B], scores=[0.6, 0.3])
        of_keypoints = np.repeat([[0.8], [0.5]], len(COCO_17), axis=1).astype(np.float32)
        of_keypoints[:, :5] = 0.1  # too weak to count
        tracker.update(replace(seen, keypoint_scores=of_keypoints), wall(), 0.0)
        assert tracker.propose(wall(), 0.1).scores.tolist() == pytest.approx([0.75, 0.6])

    def test_people_who_are_not_confirmed_are_proposed(self) -> None:
        tracker = PoseTracker(COCO_17)
        for n in range(4):
            assert tracker.newcomers == (n > 0)
            found = tracker.update(people([A], scores=[0.3]), wall(), n / 10)
            assert len(tracker.propose(wall(), n / 10 + 0.05)) == 1
            assert ids(found) == ([-1] if n < 3 else [1])
        assert not tracker.newcomers

    def test_an_update_of_the_proposed_frame_moves_nobody_again(self) -> None:
        tracker, frame = PoseTracker(COCO_17), wall(12)
        tracker.update(people([A]), wall(), 0.0)
        first = tracker.propose(frame, 0.1).boxes
        np.testing.assert_array_equal(tracker.propose(frame, 0.1).boxes, first)
        tracker.update(people([(A[0] + 12, A[1])]), frame, 0.1)
        np.testing.assert_allclose(tracker.tracks[0].velocity, (0, 0), atol=5)  # all motion was the camera's

    def test_proposals_without_pixels_follow_motion(self) -> None:
        tracker = PoseTracker(COCO_17)
        for n in range(4):
            tracker.update(people([(60 + 10 * n, 80)]), None, n / 10)
        box = tracker.propose(None, 0.4).boxes[0]
        assert (box[0] + box[2]) / 2 == pytest.approx(100, abs=4)

    def test_another_frame_size_moves_everybody_along(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A, B]), wall(), 0.0)
        larger = people([B, A])
        larger = replace(larger, keypoints=larger.keypoints * 2, boxes=larger.boxes * 2)
        assert ids(tracker.update(larger, wall(width=640, height=360), 0.1)) == [2, 1]

    def test_a_frame_must_be_one(self) -> None:
        with pytest.raises(ValueError, match="height, width, 3"):
            PoseTracker(COCO_17).update(people([A]), np.zeros((4, 4), np.uint8), 0.0)


class TestUnsettled:
    def test_while_all_are_in_sight_it_is_settled(self) -> None:
        tracker = PoseTracker(COCO_17)
        assert tracker.unsettled  # nothing is known yet
        for n in range(3):
            tracker.update(people([A, B]), wall(), n / 10)
            assert not tracker.unsettled

    def test_somebody_lost_unsettles_it_once(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A, B]), wall(), 0.0)
        tracker.update(people([A]), wall(), 0.1)
        assert tracker.unsettled
        tracker.update(people([A]), wall(), 0.2)
        assert not tracker.unsettled

    def test_another_scene_does(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A, B]), wall(), 0.0)
        tracker.update(people([A, B]), 255 - wall()[::-1, ::-1].copy(), 0.1)
        assert tracker.unsettled

    def test_a_pause_does(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 0.0)
        tracker.update(people([A]), None, 3.0)
        assert tracker.unsettled


class TestState:
    def test_another_tracker_goes_on_where_one_stopped(self) -> None:
        first, second = PoseTracker(COCO_17), PoseTracker(COCO_17, TrackerConfig(history=5))
        for n in range(10):
            first.update(people([(60 + 2 * n, 80), (240 - 2 * n, 80)]), wall(), n / 10)
        second.restore(first.state())
        assert second.unsettled
        assert ids(second.update(people([(160, 80), (150, 80), (20, 80)]), wall(), 5.0)) == [1, 2, 3]

    def test_a_state_is_of_its_own(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 0.0)
        state = tracker.state()
        tracker.update(people([(A[0] + 5, A[1])]), None, 0.1)
        assert state.timestamp == 0
        np.testing.assert_array_equal(state.tracks.boxes, people([A]).boxes)
        restored = PoseTracker(COCO_17)
        restored.restore(state)
        restored.update(people([(A[0] + 5, A[1])]), None, 0.1)
        np.testing.assert_array_equal(state.tracks.boxes, people([A]).boxes)

    def test_a_state_is_small(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([(50.0 * n, 80) for n in range(4)]), wall(), 0.0)
        tracks = tracker.state().tracks
        assert sum(getattr(tracks, field.name).nbytes for field in dataclasses.fields(tracks)) < 5000

    def test_a_state_of_another_skeleton_is_refused(self) -> None:
        with pytest.raises(ValueError, match="this state is of coco-17"):
            PoseTracker(BLAZEPOSE_33).restore(PoseTracker(COCO_17).state())

    def test_a_broken_state_is_refused(self) -> None:
        tracker = PoseTracker(COCO_17)
        tracker.update(people([A]), None, 0.0)
        state = tracker.state()
        for broken in (
            replace(state.tracks, seen=np.zeros(3)),
            replace(state.tracks, boxes=np.full((1, 4), np.nan, np.float32)),
            replace(state.tracks, poses=state.tracks.poses[:, :, :5]),
        ):
            with pytest.raises(ValueError, match=r"people|numbers|like"):
                tracker.restore(replace(state, tracks=broken))


def test_weak_keypoints_are_filled_only_on_request_and_reported() -> None:
    tracker = PoseTracker(COCO_17, TrackerConfig(fill_keypoints=True))
    tracker.update(people([A]), wall(), 0.0)
    given = people([(A[0] + 5, A[1])])
    given.keypoint_scores[0, 3] = 0.05
    given.keypoints[0, 3] = 0
    result = tracker.update(given, wall(5), 0.1)
    assert np.flatnonzero(tracker.filled[0]).tolist() == [3]
    np.testing.assert_allclose(result.keypoints[0, 3], people([(A[0] + 5, A[1])]).keypoints[0, 3], atol=2)
    assert result.keypoint_scores[0, 3] == pytest.approx(0.45)
    np.testing.assert_array_equal(given.keypoints[0, 3], 0)


def test_keypoints_that_are_not_finite_are_no_error() -> None:
    tracker, poses = PoseTracker(COCO_17), people([A])
    tracker.update(people([A]), wall(), 0.0)
    poses.keypoints[0, 2] = np.nan
    assert ids(tracker.update(poses, wall(), 0.1)) == [1]
    assert ids(tracker.update(people([A]), wall(), 0.2)) == [1]


def test_poses_of_another_skeleton_are_refused() -> None:
    with pytest.raises(ValueError, match="this tracker follows coco-17"):
        PoseTracker(COCO_17).update(people([A], skeleton=BLAZEPOSE_33), None, 0.0)


@pytest.mark.parametrize(
    "wrong", [{"birth_score": 1.5}, {"lost_seconds": -1.0}, {"history": 0}, {"max_tracks": 0}, {"assignment": "best"}]
)
def test_invalid_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackerConfig(**wrong)  # type: ignore[arg-type]


def test_tracks_describe_people() -> None:
    tracker = PoseTracker(COCO_17)
    for n in range(11):
        tracker.update(people([(50 + 5 * n, 80), B] if n < 9 else [(50 + 5 * n, 80)]), None, n / 10)
    walker, gone = tracker.tracks
    assert (walker.id, walker.visible, walker.last_seen) == (1, True, 1.0)
    assert walker.age == pytest.approx(1.0)
    assert walker.velocity == pytest.approx((50, 0), abs=3)
    assert (gone.id, gone.visible, gone.last_seen) == (2, False, 0.8)
