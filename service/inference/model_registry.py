"""The model registry: loads the models that this process serves, and joins their networks into pipelines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engines.catalogue import Catalogue, CatalogueError, Model
from engines.catalogue.fetch.sources import DownloadProgress
from engines.cores import core_limit, usable_cores
from engines.crops.runners import CropRunner, CropRunners
from engines.families import check_keypoints, open_detector, open_estimator, open_one_stage_model
from engines.families.base import Detector, Estimator, Family, HasFlipTest, HasKeypointDecoder, OneStageModel
from engines.files import shown
from engines.inputs import Arrays
from engines.plans.flavour import NoTensorRTError
from engines.plans.manifest import PlanFile
from engines.poses import Detections, Poses, Region
from engines.runtimes import Runtime
from engines.skeletons import SKELETONS, Skeleton
from service.batching import Batcher, BatchObserver, LockstepBatcher
from service.config import Settings
from service.inference.backend_choice import RuntimeOpener, choose_backend
from service.inference.decode_stage import DecodeStage, decoder_pool
from service.inference.one_stage import OneStage
from service.inference.people_embedder import PeopleEmbedder, open_people_embedder
from service.inference.pipeline import Pipeline
from service.inference.pipeline_admission import PipelineAdmission
from service.inference.plan_builder import PlanBuilder, PlanStatus
from service.inference.stage import POSE_ROWS, RowKind, Rows, Stage, list_rows, replace_runtime
from service.inference.top_down import TopDown
from service.media.decode import ImageLimits
from service.process.memory import memory_limit
from service.process.supervisor import attempt

logger = logging.getLogger(__name__)

_CLOSE_S = 6.0
"""How long a network may take to close, which waits for the running batch."""

AnyBatcher = Batcher[Any, Any]
"""A Batcher of any kind of items."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model with its pipeline. why: how it was chosen, if the user did not name it."""

    model: Model
    pipeline: Pipeline
    skeleton: Skeleton
    why: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """The served models by name, the default first, with all their queues and networks.

    plan_statuses: of TensorRT's plans, by the network's name; empty if TensorRT is not used.
    skeletons: by name, to which poses can be converted. embedder: None for none.
    """

    models: Mapping[str, ServedModel]
    batchers: Sequence[AnyBatcher]
    runtimes: Mapping[str, Runtime]
    plan_statuses: Mapping[str, PlanStatus]
    plans: PlanBuilder
    decoder: DecodeStage | None = None
    skeletons: Mapping[str, Skeleton] = field(default_factory=lambda: SKELETONS)
    embedder: PeopleEmbedder | None = None

    @property
    def default(self) -> ServedModel:
        """The model for requests that name none."""
        return next(iter(self.models.values()))

    async def start(self) -> None:
        """Start the worker threads, also those of models that were loaded since the last call."""
        for batcher in self.batchers:
            if not batcher.started:
                await batcher.start()

    def build_plans(self) -> None:
        """Build the missing TensorRT plans in the background; each is used as soon as it is ready."""
        self.plans.start()

    def fell_back(self, network: str, asked: str) -> bool:
        """True if a network does not run in the precision of the settings, or its plan could not be built."""
        status = self.plan_statuses.get(network)
        if status is None:
            return asked not in ("auto", self.runtimes[network].spec.precision)
        if status.manifest is not None:
            return status.manifest.precision != status.manifest.asked
        return status.state == "failed"

    def release(self, *, unused: bool = False) -> None:
        """Let idle networks and decoders release the memory that they keep; blocks for some milliseconds.

        unused: only what no batch has needed since the last call, also while the server is busy.
        """
        if self.decoder is not None and not unused:
            self.decoder.release()
        for runtime in tuple(self.runtimes.values()):
            runtime.release(unused=unused)

    async def close(self, drain_seconds: float) -> None:
        """Finish accepted work within `drain_seconds`, then stop the threads and free the networks.

        Each is closed even if others fail; one that hangs is left behind.
        """
        await attempt("building plans", _CLOSE_S, self.plans.close)
        await asyncio.gather(*(batcher.close(drain_seconds) for batcher in self.batchers), return_exceptions=True)
        if self.decoder is not None:
            await attempt("closing decoders", _CLOSE_S, self.decoder.pool.close)
        for name, runtime in self.runtimes.items():
            await attempt(f"closing {name}", _CLOSE_S, runtime.close)


def image_limits(settings: Settings) -> ImageLimits:
    """The limits of an image's size."""
    return ImageLimits(max_bytes=int(settings.max_body_mb * 1e6), max_pixels=int(settings.max_pixels_m * 1e6))


def servable(model: Model) -> Model:
    """The model itself. Raises CatalogueError for a detector or embedder, which cannot answer for whole images."""
    if model.role == "detector":
        raise CatalogueError(f"{model.name} is a detector; serve an estimator, which brings its detector along")
    if model.role == "embedder":
        raise CatalogueError(f"{model.name} is an embedder, which finds nobody; name it in the setting embedder")
    return model


def check_embedder(model: Model) -> None:
    """Raise CatalogueError for a model of another role."""
    if model.role != "embedder":
        raise CatalogueError(f"{model.name} is no embedder; its role is {model.role}")


def open_serving(
    catalogue: Catalogue,
    names: Sequence[str],
    settings: Settings,
    observer: BatchObserver | None = None,
    *,
    why: str = "",
    progress: DownloadProgress | None = None,
    repeatable: bool = False,
    embedder: str = "",
) -> Serving:
    """Load the models of `names` (at least one, the first is the default) with their detectors; blocks.

    why: how the first was chosen. repeatable: see `ModelRegistry`. embedder: for the trackers of streams, or none.
    Raises as `ModelRegistry.load`, UnknownModelError, and NoTensorRTError if TensorRT is required and cannot run.
    """
    models = [servable(catalogue[name]) for name in dict.fromkeys(names)]
    registry = ModelRegistry(catalogue, settings, observer, repeatable=repeatable)
    registry.load(models, why=why, progress=progress)
    if embedder:
        registry.load_embedder(catalogue[embedder], progress=progress)
    return registry.serving()


class ModelRegistry:
    """Loads and unloads models: fetches, compiles and warms up their networks, and joins them into pipelines.

    A network that two models share is opened once and has one queue. All pipelines share one decode stage.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        settings: Settings,
        observer: BatchObserver | None = None,
        *,
        repeatable: bool = False,
    ) -> None:
        """repeatable: compute on one core, and let groups run in lockstep, for results that are the same to the last
        bit each time. Raises NoTensorRTError if TensorRT is required and cannot run.
        """
        self._catalogue = catalogue
        self._settings = settings
        self._observer = observer
        self._batcher_type: type[AnyBatcher] = LockstepBatcher if repeatable else Batcher
        threads = 1 if repeatable else core_limit(settings.workers)
        backend = choose_backend(settings.backend)
        self._opener = RuntimeOpener(settings, backend, threads=threads)
        self._runners = CropRunners(settings.crops)
        self._detectors: dict[str, Detector] = {}
        self._estimators: dict[str, Estimator] = {}
        self._one_stage: dict[str, OneStageModel] = {}
        self._embedder: PeopleEmbedder | None = None
        self._models: dict[str, ServedModel] = {}
        self._batchers: list[AnyBatcher] = []
        self._runtimes: dict[str, Runtime] = {}
        self._stages: dict[str, Stage[Any]] = {}
        limits, cores = image_limits(settings), usable_cores(settings.workers)
        # With `repeatable`, no picture may time out in one run and not in another because the machine is busier.
        pool = decoder_pool(limits, memory_limit() // settings.workers, cores, time_factor=10 if repeatable else 1)
        self._decoder = DecodeStage(limits, cores, self._open_queue, pool, share=settings.client_share)

    def load(self, models: Sequence[Model], *, why: str = "", progress: DownloadProgress | None = None) -> None:
        """Load models with their detectors; their networks are opened in parallel. why: how the first was chosen.

        Raises FetchError, and CatalogueError, also for a graph that cannot be read or compiled.
        """
        for model in models:
            self._open_families(model)
        missing = [name for name in self._families() if name not in self._runtimes]
        for name in missing:
            self._catalogue[name].fetch(progress=progress)
        with ThreadPoolExecutor(thread_name_prefix="posewire-open") as pool:
            self._runtimes |= dict(zip(missing, pool.map(self._open_runtime, missing), strict=True))
        for name in missing:
            # Networks could not release all of their memory while others were being compiled.
            self._runtimes[name].release()
        for model in models:
            pipeline = self._open_pipeline(model)
            skeleton = (self._estimators | self._one_stage)[model.name].skeleton
            self._models[model.name] = ServedModel(model, pipeline, skeleton, "" if self._models else why)

    def load_embedder(self, model: Model, *, progress: DownloadProgress | None = None) -> None:
        """Load the embedder for the trackers of streams. One that cannot be had is logged, and streams do without.

        Raises CatalogueError for a model of another role.
        """
        check_embedder(model)
        opened = open_people_embedder(model, self._open_graph, self._runners, self._open_queue, progress)
        if opened is not None:
            self._embedder = opened
            self._runtimes[model.name] = opened.stage.runtime

    async def unload(self, name: str, drain_seconds: float = 10.0) -> None:
        """Serve a model no more: finish its accepted work, then free the networks that no other model uses.

        drain_seconds: for the accepted work. Raises ValueError for the only model, KeyError if it is not loaded.
        """
        if len(self._models) == 1:
            raise ValueError(f"{name} is the only model that is served")
        del self._models[name]
        used = {network for served in self._models.values() for network in (served.model.name, *served.model.others)}
        if self._embedder is not None:
            used.add(self._embedder.name)
        for network in [network for network in self._runtimes if network not in used]:
            batcher = self._stages.pop(network).batcher
            await batcher.close(drain_seconds)
            self._batchers.remove(batcher)
            for families in (self._detectors, self._estimators, self._one_stage):
                families.pop(network, None)
            await attempt(f"closing {network}", _CLOSE_S, self._runtimes.pop(network).close)

    def serving(self) -> Serving:
        """The loaded models; those that are loaded or unloaded later, too. Call it once."""
        plans = PlanBuilder(self._opener.tasks(self._take_over))
        return Serving(
            self._models,
            self._batchers,
            self._runtimes,
            self._opener.statuses,
            plans,
            self._decoder,
            self._catalogue.skeletons,
            self._embedder,
        )

    def _families(self) -> dict[str, Detector | Estimator | OneStageModel]:
        return {**self._detectors, **self._estimators, **self._one_stage}

    def _open_families(self, model: Model) -> None:
        """Open the family of a model, and those of its detector or its other shapes."""
        if model.detector is not None and model.detector not in self._detectors:
            self._detectors[model.detector] = open_detector(self._catalogue[model.detector])
        if model.role == "estimator":
            self._estimators[model.name] = open_estimator(model)
        else:
            for part in self._catalogue.parts(model.name):
                self._one_stage[part.name] = open_one_stage_model(part)

    def _open_runtime(self, name: str) -> Runtime:
        model, family = self._catalogue[name], self._families()[name]
        runtime = self._open_graph(model, family)
        try:
            check_keypoints(model, family, runtime.spec.outputs)
        except CatalogueError:
            runtime.close()
            raise
        return runtime

    def _open_graph(self, model: Model, family: Family) -> Runtime:
        try:
            return self._opener.open(model, family.outputs)
        except (CatalogueError, NoTensorRTError):
            raise
        except ValueError as error:
            raise CatalogueError(f"{model.name}: {error}") from error
        except RuntimeError as error:  # from OpenVINO or ONNX Runtime, whose messages refer to their own sources
            logger.debug("%s: %s", model.name, error)
            raise CatalogueError(
                f"{model.name}: {shown(model.fetch())} cannot be run; "
                "it is damaged, or its input or outputs are not as the catalogue says"
            ) from error

    def _open_runner(self, name: str, runtime: Runtime) -> CropRunner:
        family = self._families()[name]
        flip = isinstance(family, HasFlipTest) and family.flip
        decoder = family.keypoint_decoder if isinstance(family, HasKeypointDecoder) else None
        return self._runners.open(runtime, family.pixels, flip=flip, decoder=decoder)

    def _open_stage(
        self, name: str, decode: Callable[[Arrays, Sequence[Region]], Rows], kind: RowKind[Rows]
    ) -> Stage[Rows]:
        """The stage of a network, which all models that use it share."""
        if name not in self._stages:
            runtime, pixels = self._runtimes[name], self._families()[name].pixels
            runner = self._open_runner(name, runtime)
            self._stages[name] = Stage(name, runtime, pixels, runner, decode, kind, self._open_queue)
        return self._stages[name]

    def _open_pipeline(self, model: Model) -> Pipeline:
        admission = PipelineAdmission(self._observer)
        if model.name in self._one_stage:
            families = {name: self._one_stage[name] for name in (model.name, *model.shapes)}
            stages = [self._open_stage(name, family.decode, list_rows(Poses)) for name, family in families.items()]
            return OneStage(self._decoder, [*zip(families.values(), stages, strict=True)], admission=admission)
        estimator, detector, detect = self._estimators[model.name], None, None
        if model.detector is not None:
            detector = self._detectors[model.detector]
            detect = self._open_stage(model.detector, detector.decode, list_rows(Detections))
        estimate = self._open_stage(model.name, estimator.decode, POSE_ROWS)
        return TopDown(self._decoder, estimator, estimate, detector, detect, admission=admission)

    def _open_queue(self, run: Callable[[Sequence[Any]], Sequence[Any]], name: str, **options: Any) -> AnyBatcher:
        """A Batcher with the server's settings; `options` override them."""
        defaults: dict[str, Any] = {
            "max_delay": self._settings.max_delay_ms / 1000,
            "max_queue": self._settings.max_queue,
            "hang_after": self._settings.hang_seconds,
            "observer": self._observer,
        }
        batcher = self._batcher_type(run, name=name, **(defaults | options))
        self._batchers.append(batcher)
        return batcher

    def _take_over(self, name: str, plan: PlanFile) -> None:
        """Run a network with its newly built plan from now on."""
        runtime = self._opener.open_plan(plan, self._families()[name].outputs)
        replace_runtime(self._runtimes, self._stages[name], runtime, partial(self._open_runner, name))
