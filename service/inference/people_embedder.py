"""The embedder of a server: says what people in frames look like, for trackers that recognise who comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from engines.catalogue import CatalogueError, Model
from engines.catalogue.fetch.sources import DownloadProgress, FetchError
from engines.crops.runners import CropRunners
from engines.families import open_embedder
from engines.families.base import Embedder, Family
from engines.plans.flavour import NoTensorRTError
from engines.poses import Floats, Frame
from engines.runtimes.base import Runtime
from service.batching import Batcher, BatchingError
from service.inference.stage import FrameRequest, InferenceOptions, RowKind, Stage, StageOutput, Timing

log = logging.getLogger(__name__)

EMBEDDINGS: RowKind[Floats] = RowKind(lambda rows, part: rows[part], lambda parts: np.concatenate(list(parts)))
"""An embedding for each region."""

_LONGEST_S = 0.5
"""How long a frame may wait for its embeddings."""
_PAUSE_S = 5.0
"""After a failure, trackers use colours alone for so long, so that a slow or broken network does not slow streams."""


@dataclass(eq=False)
class PeopleEmbedder:
    """Runs an embedder on boxes. name: of the network. size: values of an embedding."""

    name: str
    family: Embedder
    stage: Stage[Floats]
    size: int
    _paused_until: float = field(default=0.0, init=False)
    _failing: bool = field(default=False, init=False)

    async def embed(self, frame: Frame, boxes: Floats, options: InferenceOptions) -> tuple[Floats | None, Timing]:
        """Return the embeddings (N, D) of the people in boxes (N, 4), and the time it took. None if there are none now.

        Never raises for a network that fails or is overloaded: that is logged, and people go without for a while.
        """
        now = time.monotonic()
        deadline = now + _LONGEST_S
        late = options.deadline is not None and options.deadline < deadline
        if not len(boxes) or late or now < self._paused_until:
            return None, Timing()
        # The embedder is not what frames were admitted for, and does without a lease: the frame's pixels are counted.
        options = replace(options, deadline=deadline, reservations={}, lease=None)
        try:
            async with asyncio.timeout(_LONGEST_S):
                result = await self.stage.run(frame, self.family.regions(boxes), options)
        except (BatchingError, TimeoutError) as error:
            self._fail(str(error) or "it gave no answer in time")
        except Exception as error:  # noqa: BLE001 - of the network; logged, and the stream goes on
            self._fail(repr(error))
        else:
            if self._failing:
                log.warning("the embedder %s works again", self.name)
            self._failing = False
            return result
        return None, Timing()

    def _fail(self, why: str) -> None:
        if not self._failing:
            log.warning("the embedder %s fails; people are recognised by colours alone: %s", self.name, why)
        self._failing, self._paused_until = True, time.monotonic() + _PAUSE_S


def open_people_embedder(
    model: Model,
    open_graph: Callable[[Model, Family], Runtime],
    runners: CropRunners,
    open_queue: Callable[..., Batcher[FrameRequest, StageOutput[Floats]]],
    progress: DownloadProgress | None = None,
) -> PeopleEmbedder | None:
    """Fetch and open an embedder. None, with an error in the log, if it cannot be had."""
    try:
        family = open_embedder(model)
        model.fetch(progress=progress)
        runtime = open_graph(model, family)
        try:
            size = family.size({spec.name: spec.shape for spec in runtime.spec.outputs})
        except ValueError as error:
            runtime.close()
            raise CatalogueError(f"{model.name}: {error}") from error
    except (CatalogueError, FetchError, NoTensorRTError) as error:
        log.error("people are recognised by colours alone, as the embedder cannot be used: %s", error)
        return None
    runner = runners.open(runtime, family.pixels)
    stage = Stage(model.name, runtime, family.pixels, runner, family.decode, EMBEDDINGS, open_queue)
    return PeopleEmbedder(model.name, family, stage, size)
