"""Request and response schemas, for validation and for /docs. Responses are encoded from arrays without them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.media.draw import Background, DrawOptions
from service.media.palette import Colouring

Formats = Literal["json", "coco", "openpose"]


class PoseQuery(BaseModel):
    """The parameters of POST /pose."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="a model that GET /models lists; by default the first")
    min_score: float = Field(0.3, ge=0, le=1, description="people with a lower score are left out")
    max_people: int | None = Field(None, ge=1, le=1000, description="at most this many people, best first")
    skeleton: str = Field("native", description="the model's own keypoints, or a skeleton of GET /skeletons")
    format: Formats = Field(
        "json", description="json: Posewire's own; coco: COCO results; openpose: BODY_25, face, hands"
    )
    timeout_ms: int | None = Field(None, ge=1, le=120_000, description="deadline, milliseconds from arrival")
    boxes: bool = Field(False, description="pictures: draw everybody's box")
    ids: bool = Field(False, description="pictures: write everybody's place in the list of people, from 0")
    labels: bool = Field(False, description="pictures: write everybody's score")
    colours: Colouring = Field("auto", description="pictures: what the colours of limbs tell apart")
    blur: Literal["faces"] | None = Field(
        None, description="pictures: blur the faces of all people who are found, also of those who are left out"
    )
    background: Background = Field(
        "picture", description="pictures: what to draw on; none is transparent, for image/png only"
    )
    priority: Literal["still", "bulk"] = Field("still", description="bulk gives way to all other requests")

    @property
    def look(self) -> DrawOptions:
        """How to draw the picture."""
        return {
            "boxes": self.boxes,
            "ids": self.ids,
            "labels": self.labels,
            "colours": self.colours,
            "background": self.background,
        }


class VideoQuery(BaseModel):
    """The parameters of POST /videos."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        None, min_length=1, max_length=200, description="of the file; by default that of the multipart part"
    )
    model: str | None = Field(None, description="a model that GET /models lists; by default the first")
    skeleton: str = Field("native", description="the model's own keypoints, or a skeleton of GET /skeletons")
    min_score: float = Field(0.3, ge=0, le=1, description="people with a lower score are left out")
    max_people: int | None = Field(None, ge=1, le=1000, description="at most this many people in a frame, best first")


class PictureQuery(BaseModel):
    """The parameters of a camera's pictures."""

    model_config = ConfigDict(extra="forbid")

    draw: bool = Field(True, description="with people, zones and lines drawn on it; 0 for the plain picture")
    width: int = Field(0, ge=0, le=10_000, description="pixels at most, rounded down to a multiple of 160; 0: as it is")
    quality: int = Field(80, ge=1, le=100, description="of the JPEG, rounded up to a multiple of 10")


class LiveQuery(PictureQuery):
    """The parameters of a camera's live pictures."""

    fps: float = Field(10, ge=0.01, le=60, description="the most pictures a second")


class PersonResponse(BaseModel):
    """One person in an image."""

    score: float = Field(ge=0, le=1)
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels")
    keypoints: list[tuple[float, float, float]] = Field(description="x, y in pixels and score, in skeleton order")
    keypoints_3d: list[tuple[float, float, float]] | None = Field(
        None, description="x, y, z in metres from the middle of the hips, from models that give them"
    )


class TimingMs(BaseModel):
    """Milliseconds spent in each part of the work."""

    queue: float
    prepare: float
    infer: float
    decode: float
    serialise: float
    total: float


class PoseResponse(BaseModel):
    """The people in one image."""

    width: int
    height: int
    model: str
    skeleton: str
    people: list[PersonResponse]
    timing_ms: TimingMs


class CocoResult(BaseModel):
    """One person in COCO's results format, for `format=coco`."""

    image_id: int = Field(description="the image's place in the request, from 0")
    category_id: Literal[1]
    keypoints: list[float] = Field(description="x1, y1, v1, ... of COCO's 17 keypoints, or of a model's own")
    score: float = Field(ge=0, le=1)
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height in pixels")
    foot_kpts: list[float] = Field([], description="of whole bodies, as in COCO-WholeBody")
    face_kpts: list[float] = []
    lefthand_kpts: list[float] = []
    righthand_kpts: list[float] = []


class OpenPosePerson(BaseModel):
    """One person of an OpenPose document. Lists of keypoints that the model does not give are empty."""

    person_id: tuple[int] = Field(description="-1, as people in single images are not tracked")
    pose_keypoints_2d: list[float] = Field(max_length=75, description="x1, y1, score1, ... of BODY_25")
    face_keypoints_2d: list[float] = Field(max_length=210, description="68 keypoints; the two pupils are 0, 0, 0")
    hand_left_keypoints_2d: list[float] = Field(max_length=63)
    hand_right_keypoints_2d: list[float] = Field(max_length=63)


class OpenPoseDocument(BaseModel):
    """The document that OpenPose's --write_json writes for an image, for `format=openpose`."""

    version: float
    people: list[OpenPosePerson]


Answer = PoseResponse | list[CocoResult] | OpenPoseDocument
"""The response for one image, by `format`."""


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str = Field(description="stable; GET on it explains the problem", examples=["/problems/undecodable-image"])
    title: str
    status: int
    detail: str
    request_id: str | None = None


class ProblemEntry(BaseModel):
    """The entry of an image that failed, in a list of results."""

    error: Problem


class VideoLinks(BaseModel):
    """Where the parts of a video job are."""

    self: str
    events: str = Field(description="the job as server-sent events, until it has ended")
    poses: str = Field(description="the results; format=ndjson while it runs")
    video: str = Field(description="the drawn video, when the job is done")


class VideoJobResponse(BaseModel):
    """A video job. Members are null while they are not known."""

    id: str
    name: str
    model: str
    skeleton: str
    state: Literal["queued", "running", "done", "failed"]
    created: str = Field(description="ISO 8601, UTC")
    frames_done: int
    frames_total: int | None = Field(description="as far as the file's header tells")
    percent: float | None
    fps: float | None = Field(description="frames per second of late")
    seconds_left: float | None
    error: Problem | None = Field(description="why it has failed; of a job that is done, what is damaged in its video")
    links: VideoLinks


class VideoList(BaseModel):
    """The video jobs of a client, the newest first."""

    videos: list[VideoJobResponse]


class CameraLinks(BaseModel):
    """Where the parts of a camera are."""

    self: str
    results: str = Field(description="a websocket of its results")
    live: str = Field(description="MJPEG, with the skeletons drawn if draw=1")
    picture: str = Field(description="the newest picture")


class CameraResponse(BaseModel):
    """A camera of the server. Members are null while they are not known."""

    name: str
    source: str = Field(description="without user name, password and query")
    state: Literal["connecting", "live", "lost", "paused", "ended", "elsewhere"]
    since: str = Field(description="ISO 8601, UTC")
    reason: str = Field(description="why it is lost or has ended")
    origin: Literal["file", "api"] = Field(description="who named it: the server's file, or an admin by the API")
    replica: str = Field(description="the server that has it")
    fps_in: float = Field(description="frames a second that arrive, over the last seconds")
    fps_done: float = Field(description="frames a second with a result")
    age_ms: float | None = Field(description="mean age of frames when their people were known, over the last seconds")
    dropped: int = Field(description="frames that were not looked at, because newer ones came or of `fps`")
    decoded: int = Field(description="frames that have arrived")
    failed: int = Field(description="frames without a result, because of an error")
    people: int | None = Field(description="in the newest result")
    width: int | None
    height: int | None
    codec: str | None
    options: dict[str, Any] = Field(description="its entry, without the source")
    links: CameraLinks


class CameraList(BaseModel):
    """The cameras of a server."""

    cameras: list[CameraResponse]
    admin: bool = Field(description="whether the key of this request may change them")


class PlanInfo(BaseModel):
    """The TensorRT plan of a network. Until it is ready, or if it fails, a slower runtime serves."""

    state: Literal["building", "ready", "failed"]
    share: float = Field(description="part of the build that is done, 0..1")
    detail: str = Field(description="the current step, or why the build failed")
    asked: str | None = Field(None, description="the requested precision")
    precision: str | None = Field(None, description="the precision that passed the accuracy gate")
    built_at: str | None = None
    gate: list[dict[str, Any]] = Field([], description="what the accuracy gate measured against fp32")


class ModelInfo(BaseModel):
    """A served model."""

    name: str
    title: str
    default: bool
    why: str = Field(description="how the default was chosen, if no model was named")
    skeleton: str
    detector: str | None
    licence: str
    accuracy: str = Field(description="as published")
    device: str
    precision: str
    max_batch: dict[str, int] = Field(description="largest batch of each network")
    queue: dict[str, int] = Field(description="work units that wait for each network")
    plans: dict[str, PlanInfo] = Field({}, description="plan of each network that TensorRT runs or will run")


class SkeletonInfo(BaseModel):
    """A keypoint set."""

    name: str
    keypoints: list[str]
    limbs: list[tuple[str, str]]
    pairs: list[tuple[str, str]] = Field(description="left and right keypoints, which mirroring swaps")
    sigmas: list[float]


class State(BaseModel):
    """The response of /livez and /readyz."""

    status: Literal["ok", "starting", "draining", "unhealthy"]
    detail: str = ""
