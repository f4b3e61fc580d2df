"""What a plan is judged by: crops as its network is to see them, and how its family reads what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.build.crops import Crops, crops_of_images, drawn_crops
from engines.catalogue import Model
from engines.families.reading import Read, reader


@dataclass(frozen=True, slots=True)
class Evidence:
    """crops: (n, height, width, 3) uint8 RGB. read, dense: see `engines.build.gate.compare`.

    drawn: nobody gave images, so the crops are drawn; int8 cannot take its scales from them.
    """

    crops: Crops
    read: Read
    dense: bool
    drawn: bool = False

    @property
    def digest(self) -> str:
        """Of the crops, for a manifest."""
        return hashlib.sha256(self.crops.tobytes()).hexdigest()


def evidence_for(model: Model, catalogue: Mapping[str, Model], images: Path | None = None) -> Evidence:
    """Crops of the folder `images` as the model sees them, or drawn ones. Raises CalibrationError and FetchError."""
    crops = drawn_crops(model.input) if images is None else crops_of_images(images, model, catalogue)
    lists = model.role in ("detector", "one-stage")  # of candidates, whose order says nothing
    return Evidence(crops, reader(model), dense=not lists, drawn=images is None)
