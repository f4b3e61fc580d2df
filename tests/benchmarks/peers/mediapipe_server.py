"""A FastAPI handler that calls MediaPipe's PoseLandmarker. Runs in its own environment, without this project.

python mediapipe_server.py PORT one|each FOLDER, the latter for the bundle that it makes of the wheel's own files
"""

from __future__ import annotations

import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import mediapipe  # type: ignore[import-not-found]
import numpy as np
import uvicorn
from fastapi import Body, FastAPI, HTTPException
from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-not-found]
from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer  # type: ignore[import-not-found]

_MODULES = Path(mediapipe.__file__).parent / "modules"


def write_bundle(path: Path) -> None:
    """Create the .task file of PoseLandmarker from the two graphs in MediaPipe's wheel."""

    def described(name: str, mean: float, std: float, outputs: int) -> bytes:
        writer = metadata_writer.MetadataWriter.create(bytearray((_MODULES / name).read_bytes()))
        writer.add_image_input([mean], [std])
        for number in range(outputs):
            writer.add_feature_output(f"output{number}")
        return bytes(writer.populate()[0])

    with zipfile.ZipFile(path, "w") as bundle:  # stored, not compressed: MediaPipe maps it
        bundle.writestr("pose_detector.tflite", described("pose_detection/pose_detection.tflite", 127.5, 127.5, 2))
        bundle.writestr(
            "pose_landmarks_detector.tflite", described("pose_landmark/pose_landmark_full.tflite", 0.0, 255.0, 5)
        )


def one_landmarker(bundle: Path) -> Callable[[Any], Any]:
    """The usual implementation: one landmarker and a lock, because it is not thread-safe."""
    landmarker, lock = _open(bundle), threading.Lock()

    def detect(image: Any) -> Any:
        with lock:
            return landmarker.detect(image)

    return detect


def landmarker_each(bundle: Path) -> Callable[[Any], Any]:
    """One landmarker per thread of the pool."""
    local = threading.local()

    def detect(image: Any) -> Any:
        if not hasattr(local, "landmarker"):
            local.landmarker = _open(bundle)
        return local.landmarker.detect(image)

    return detect


def _open(bundle: Path) -> Any:
    options = vision.PoseLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(bundle)))
    return vision.PoseLandmarker.create_from_options(options)


def create_app(detect: Callable[[Any], Any]) -> FastAPI:
    """JPEG in, JSON out: pixels and visibility of each person's landmarks."""
    app = FastAPI()

    @app.post("/pose")
    def pose(photo: Annotated[bytes, Body()]) -> dict[str, Any]:
        decoded = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise HTTPException(400, "this is no picture")
        frame = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        height, width = frame.shape[:2]
        found = detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame))
        people = [
            {"keypoints": [[point.x * width, point.y * height, point.visibility] for point in landmarks]}
            for landmarks in found.pose_landmarks
        ]
        return {"width": width, "height": height, "people": people}

    return app


if __name__ == "__main__":
    _, port, form, folder = sys.argv
    file = Path(folder) / f"{form}.task"
    write_bundle(file)
    app = create_app({"one": one_landmarker, "each": landmarker_each}[form](file))
    uvicorn.run(app, port=int(port), log_level="warning")
