"""What a plan is judged by: crops as its network is to see them, and how its family reads what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.build.accuracy_gate.crops import Crops, crops_of_images, drawn_crops
from engines.build.accuracy_gate.images import images_digest
from engines.catalogue.models import Model
from engines.families.reading import Read, reader


@dataclass(frozen=True, slots=True)
class EvaluationImages:
    """crops: (n, height, width, 3) uint8 RGB. read, dense: see `engines.build.accuracy_gate.gate.compare`.

    digest: of the images that they were cut from, see `engines.build.accuracy_gate.images`. None: no images were given,
    so the crops are drawn; int8 cannot take its scales from them.
    """

    crops: Crops
    read: Read
    dense: bool
    digest: str | None = None


def evidence_for(model: Model, catalogue: Mapping[str, Model], images: Path | None = None) -> EvaluationImages:
    """Crops of the folder `images` as the model sees them, or drawn ones. Raises CalibrationError and FetchError."""
    dense = model.role not in ("detector", "one-stage")  # these give lists of candidates, whose order says nothing
    if images is None:
        return EvaluationImages(drawn_crops(model.input), reader(model), dense)
    crops = crops_of_images(images, model, catalogue)
    return EvaluationImages(crops, reader(model), dense, images_digest(images, model, catalogue))
