"""The models that this process serves: fetched, compiled, warmed up, and joined into pipelines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engines.catalogue.fetch import DownloadProgress
from engines.catalogue.models import Catalogue, CatalogueError, Model
from engines.cores import core_limit, usable_cores
from engines.crops.views import View, Views
from engines.families import (
    Detector,
    Estimator,
    HasFlipTest,
    HasKeypointDecoder,
    OneStageModel,
    open_detector,
    open_estimator,
    open_one_stage_model,
)
from engines.files import shown
from engines.plans.flavour import NoTensorRTError
from engines.plans.manifest import PlanFile
from engines.poses import Poses, Region
from engines.runtimes import Runtime
from engines.runtimes.base import Arrays
from engines.skeletons import Skeleton
from service.batching import Batcher, BatchObserver, SteppedBatcher
from service.config import Settings
from service.inference.admission import PipelineAdmission
from service.inference.backends import Networks, choose_backend
from service.inference.decode_stage import Decoder, decoder_pool
from service.inference.one_pass import WholeFrame
from service.inference.plan_builder import PlanBuilder, PlanStatus
from service.inference.stage import Result, Stage
from service.inference.top_down import Pipeline, TopDown
from service.media.decode import ImageLimits
from service.process.memory import memory_limit
from service.process.supervisor import attempt

log = logging.getLogger(__name__)

_CLOSE_S = 6.0
"""How long a network may take to close, which waits for the batch under way."""

AnyBatcher = Batcher[Any, Any]
"""A Batcher whose items do not matter here."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model with the pipeline that answers for it. why: how it was chosen, where nobody named it."""

    model: Model
    pipeline: Pipeline
    skeleton: Skeleton
    why: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """The served models by name, the default first, with every queue and network behind them.

    plan_statuses: what has become of TensorRT's plans, by the network's name, where that runs or is to run networks.
    """

    models: Mapping[str, ServedModel]
    batchers: Sequence[AnyBatcher]
    runtimes: Mapping[str, Runtime]
    plan_statuses: Mapping[str, PlanStatus]
    plans: PlanBuilder
    decoder: Decoder | None = None

    @property
    def default(self) -> ServedModel:
        """The model that answers where a request names none."""
        return next(iter(self.models.values()))

    async def start(self) -> None:
        """Start the worker threads."""
        for batcher in self.batchers:
            await batcher.start()

    def build_plans(self) -> None:
        """Build in the background what TensorRT's plans are missing; each takes over as it is ready."""
        self.plans.start()

    def fell_back(self, network: str, asked: str) -> bool:
        """Whether a network does not run in the precision that the settings ask for, or will not have its plan."""
        status = self.plan_statuses.get(network)
        if status is None:
            return asked not in ("auto", self.runtimes[network].spec.precision)
        if status.manifest is not None:
            return status.manifest.precision != status.manifest.asked
        return status.state == "failed"

    def release(self) -> None:
        """Let idle networks and decoders give back the memory that they keep; blocks for some milliseconds."""
        if self.decoder is not None:
            self.decoder.release()
        for runtime in self.runtimes.values():
            runtime.release()

    async def close(self, drain_seconds: float) -> None:
        """Finish what was accepted within `drain_seconds`, then stop the threads and free the networks.

        Each is ended whatever becomes of the others; one that hangs is left behind.
        """
        await attempt("building plans", _CLOSE_S, self.plans.close)
        await asyncio.gather(*(batcher.close(drain_seconds) for batcher in self.batchers), return_exceptions=True)
        if self.decoder is not None:
            await attempt("closing decoders", _CLOSE_S, self.decoder.pool.close)
        for name, runtime in self.runtimes.items():
            await attempt(f"closing {name}", _CLOSE_S, runtime.close)


def image_limits(settings: Settings) -> ImageLimits:
    """What an image may measure."""
    return ImageLimits(max_bytes=int(settings.max_body_mb * 1e6), max_pixels=int(settings.max_pixels_m * 1e6))


def open_serving(
    catalogue: Catalogue,
    names: Sequence[str],
    settings: Settings,
    observer: BatchObserver | None = None,
    *,
    why: str = "",
    progress: DownloadProgress | None = None,
    repeatable: bool = False,
) -> Serving:
    """Fetch, compile and warm up the models of `names` (at least one) with their detectors; blocks meanwhile.

    A network that two models share is opened once and has one queue. why: how the first was chosen.
    repeatable: compute on one core, and let groups `in_step` through, which get the same to the last bit each time.
    Raises CatalogueError (also for a graph that cannot be read or compiled), UnknownModelError, FetchError,
    NoTensorRTError where that is to run the networks and cannot.
    """
    models = [servable(catalogue[name]) for name in dict.fromkeys(names)]
    detectors = {m.detector: open_detector(catalogue[m.detector]) for m in models if m.detector is not None}
    estimators = {m.name: open_estimator(m) for m in models if m.role == "estimator"}
    finders = {m.name: open_one_stage_model(m) for m in models if m.role != "estimator"}
    roles: dict[str, Detector | Estimator | OneStageModel] = {**detectors, **estimators, **finders}
    for name in roles:
        catalogue[name].fetch(progress=progress)

    threads = 1 if repeatable else core_limit(settings.workers)
    networks = Networks(settings, choose_backend(settings.backend), threads=threads, repeatable=repeatable)

    def open_one(name: str) -> Runtime:
        try:
            return networks.open(catalogue[name], roles[name].outputs)
        except (CatalogueError, NoTensorRTError):
            raise
        except ValueError as error:
            raise CatalogueError(f"{name}: {error}") from error
        except RuntimeError as error:  # of OpenVINO or torch, whose words are about their own sources
            _log.debug("%s: %s", name, error)
            graph = shown(catalogue[name].fetch())
            raise CatalogueError(
                f"{name}: {graph} cannot be run; it is damaged, or its input or outputs are not as the catalogue says"
            ) from error

    with ThreadPoolExecutor(thread_name_prefix="posewire-open") as pool:
        runtimes = dict(zip(roles, pool.map(open_one, roles), strict=True))
    for runtime in runtimes.values():
        runtime.release()  # while one was compiled, the others could not give back all
    queues = _Queues(settings, observer, SteppedBatcher if repeatable else Batcher)
    limits, cores = image_limits(settings), usable_cores(settings.workers)
    # No picture shall fail in one run and not in another because the machine is busier.
    processes = decoder_pool(limits, memory_limit() // settings.workers, cores, patience=10 if repeatable else 1)
    decoder = Decoder(limits, cores, queues.open, processes, share=settings.client_share)
    views = Views(settings.crops)

    def look(name: str, runtime: Runtime) -> View:
        role = roles[name]
        flip = isinstance(role, HasFlipTest) and role.flip
        reading = role.keypoint_decoder if isinstance(role, HasKeypointDecoder) else None
        return views.open(runtime, role.pixels, flip=flip, reading=reading)

    def stage(
        name: str, role: Detector | Estimator | OneStageModel, decode: Callable[..., Sequence[Result]]
    ) -> Stage[Result]:
        runtime = runtimes[name]
        return Stage(name, runtime, role.pixels, look(name, runtime), decode, queues.open)

    detect = {n: stage(n, detector, detector.decode) for n, detector in detectors.items()}
    estimate = {n: stage(n, estimator, _singly(estimator)) for n, estimator in estimators.items()}
    find = {n: stage(n, finder, finder.decode) for n, finder in finders.items()}

    def pipeline(model: Model) -> Pipeline:
        name, admission = model.name, PipelineAdmission(observer)
        if name in finders:
            return WholeFrame(decoder, finders[name], find[name], admission=admission)
        if model.detector is None:
            return TopDown(decoder, estimators[name], estimate[name], admission=admission)
        finding = detectors[model.detector], detect[model.detector]
        return TopDown(decoder, estimators[name], estimate[name], *finding, admission=admission)

    served: dict[str, ServedModel] = {}
    for model in models:
        skeleton = (estimators | finders)[model.name].skeleton
        served[model.name] = ServedModel(model, pipeline(model), skeleton, "" if served else why)
    stages: dict[str, Stage[Any]] = {**detect, **estimate, **find}

    def take_over(name: str, plan: PlanFile) -> None:
        new = networks.open_plan(plan, roles[name].outputs)
        replace_runtime(runtimes, stages[name], new, lambda runtime: look(name, runtime))

    return Serving(served, queues.opened, runtimes, networks.statuses, PlanBuilder(networks.tasks(take_over)), decoder)


def replace_runtime(
    runtimes: dict[str, Runtime], stage: Stage[Any], new: Runtime, look: Callable[[Runtime], View]
) -> None:
    """Let `new` run a stage's network in place of its runtime among `runtimes`, which is closed.

    look: opens the view of a runtime. Where that or the switch fails, `new` is closed and all is as before.
    """
    try:
        old = stage.switch(new, look(new))
    except BaseException:
        new.close()
        raise
    runtimes[stage.name] = new
    try:
        old.close()
    except Exception:  # it runs nothing any more, and what it had is freed with the process
        log.exception("what ran %s before cannot be closed", stage.name)


class _Queues:
    """Opens Batchers of a kind with the server's settings and remembers them."""

    def __init__(self, settings: Settings, observer: BatchObserver | None, kind: type[AnyBatcher]) -> None:
        self.opened: list[AnyBatcher] = []
        self._kind = kind
        self._settings = settings
        self._observer = observer

    def open(self, run: Callable[[Sequence[Any]], Sequence[Any]], name: str, **options: Any) -> AnyBatcher:
        settings = self._settings
        usual: dict[str, Any] = {
            "max_delay": settings.max_delay_ms / 1000,
            "max_queue": settings.max_queue,
            "hang_after": settings.hang_seconds,
            "observer": self._observer,
        }
        batcher = self._kind(run, name=name, **(usual | options))
        self.opened.append(batcher)
        return batcher


def servable(model: Model) -> Model:
    """The model itself. Raises CatalogueError for one that cannot answer for whole images."""
    if model.role == "detector":
        raise CatalogueError(f"{model.name} is a detector; serve an estimator, which brings its detector along")
    return model


def _singly(estimator: Estimator) -> Callable[[Arrays, Sequence[Region]], Sequence[Poses]]:
    """The estimator's decoding, vectorised over the batch, then cut into one Poses per region."""

    def decode_each(outputs: Arrays, regions: Sequence[Region]) -> Sequence[Poses]:
        poses = estimator.decode(outputs, regions)
        return [poses.select(slice(n, n + 1)) for n in range(len(regions))]

    return decode_each
