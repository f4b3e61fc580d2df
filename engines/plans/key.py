"""What a plan depends on, and the name of its file, which holds all of it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from engines.runtimes.base import LADDER, PixelInput

_RECIPE = 1  # goes up where this package makes another plan of the same graph


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that invalidates a plan: where one of these differs, it is another plan.

    onnx_sha256: of the graph. flavour, version, gpu: see `engines.plans.flavour`. precision: as asked for.
    rungs: as asked for.
    """

    onnx_sha256: str
    flavour: str
    version: str
    gpu: str
    precision: str
    batch_sizes: tuple[int, ...]
    pixels: PixelInput | None = None
    outputs: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        """Of the whole key, 16 hexadecimal digits."""
        text = json.dumps(asdict(self) | {"recipe": _RECIPE}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def file_name(self, stem: str) -> str:
        """stem: what to call the model. What is readable is for people; the digest at the end covers everything."""
        word = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)[:60].strip(".-") or "model"
        flavour = f"{self.flavour}{self.version}"
        batch = f"b{self.batch_sizes[-1]}"
        return f"{word}-{self.onnx_sha256[:8]}-{self.precision}-{batch}-{flavour}-{self.gpu}-{self.digest}.plan"


def ladder(max_batch: int) -> tuple[int, ...]:
    """The rungs up to `max_batch`, which is one. Raises ValueError where it is none of 1..1024."""
    if not 1 <= max_batch <= 1024:
        raise ValueError(f"the largest batch must be 1..1024, not {max_batch}")
    return (*(batch_size for batch_size in LADDER if batch_size < max_batch), max_batch)
