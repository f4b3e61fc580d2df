"""Routes about the server itself: models, skeletons, health, metrics, and the types of problems."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service.api.problems import KINDS, ApiError
from service.api.schemas import ModelInfo, PlanInfo, Problem, SkeletonInfo, State
from service.api.state import ServerState
from service.inference.plan_builder import PlanStatus

router = APIRouter()

_PROXY_HEADERS = frozenset({"forwarded", "x-forwarded-for"})
"""Headers that load balancers add."""

_LIVE = State(status="ok").model_dump_json().encode()

Draining = Annotated[int, Query(ge=400, le=599, description="status of the answer while draining")]


@router.get("/models", summary="The served models, the default first", responses={503: {"model": Problem}})
async def models(request: Request) -> list[ModelInfo]:
    """The served models with their licences, devices, queues and plans."""
    serving = ServerState.of(request).running()
    depth = {batcher.name: batcher.stats.waiting_units for batcher in serving.batchers}
    return [
        ModelInfo(
            name=name,
            title=served.model.title,
            default=served is serving.default,
            why=served.why,
            skeleton=served.skeleton.name,
            detector=served.model.detector,
            licence=served.model.licence,
            accuracy=served.model.accuracy,
            device=served.pipeline.stages[-1].runtime.spec.device,
            precision=served.pipeline.stages[-1].runtime.spec.precision,
            max_batch={stage.name: stage.runtime.spec.max_batch for stage in served.pipeline.stages},
            queue={stage.name: depth[stage.name] for stage in served.pipeline.stages},
            plans={
                stage.name: _plan(serving.plan_statuses[stage.name])
                for stage in served.pipeline.stages
                if stage.name in serving.plan_statuses
            },
        )
        for name, served in serving.models.items()
    ]


def _plan(status: PlanStatus) -> PlanInfo:
    info = PlanInfo(state=status.state, share=status.share, detail=status.detail)
    manifest = status.manifest
    if manifest is None:
        return info
    gate = [dict(report) for report in manifest.gate]
    update = {"asked": manifest.asked, "precision": manifest.precision, "built_at": manifest.built_at, "gate": gate}
    return info.model_copy(update=update)


@router.get("/skeletons", summary="The keypoint sets by name", responses={503: {"model": Problem}})
async def skeletons(request: Request) -> list[SkeletonInfo]:
    """The keypoints in the order of the results, the limbs that connect them, and their OKS sigmas."""
    return [
        SkeletonInfo(
            name=s.name,
            keypoints=list(s.keypoints),
            limbs=[(s.keypoints[a], s.keypoints[b]) for a, b in s.limbs],
            pairs=[(s.keypoints[a], s.keypoints[b]) for a, b in s.pairs],
            sigmas=[round(float(sigma), 4) for sigma in s.sigmas],
        )
        for s in ServerState.of(request).running().skeletons.values()
    ]


async def answer_live(_state: ServerState, _request: Request) -> Response:
    """Answer GET /livez without FastAPI: many probes at once must not delay each other."""
    return Response(_LIVE, media_type="application/json")


@router.get("/livez", summary="Whether the process lives", response_model=State)
async def livez(request: Request) -> Response:
    """200 as long as the event loop runs, even if a network hangs."""
    return await answer_live(ServerState.of(request), request)


@router.get(
    "/readyz", summary="Whether to send requests here", responses={404: {"model": State}, 503: {"model": State}}
)
async def readyz(request: Request, draining: Draining = 503) -> Response:
    """503 while the server starts, while it drains after SIGTERM, and while a network hangs.

    `draining=404` distinguishes draining from the others. Load balancers can then let a draining server finish, without
    new requests, and cut off a failing one (HAProxy's `disable-on-404`).
    """
    server = ServerState.of(request)
    reason = server.unready()
    if not reason:
        return JSONResponse(State(status="ok").model_dump())
    status = reason if reason in ("draining", "starting") else "unhealthy"
    return JSONResponse({"status": status, "detail": reason}, draining if server.draining else 503)


@router.get(
    "/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses={404: {"model": Problem}}
)
def metrics(request: Request) -> Response:
    """Counters, gauges and histograms in Prometheus' text format.

    Requests that a load balancer has forwarded, by their headers, get a 404.
    """
    if not _PROXY_HEADERS.isdisjoint(request.headers):
        raise ApiError("not-found", "each replica has its own metrics; ask it directly, not through a load balancer")
    return Response(ServerState.of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/problems/{kind}",
    summary="What a problem type means",
    response_class=PlainTextResponse,
    responses={404: {"model": Problem}},
)
async def problem(kind: str) -> str:
    """The title of a problem and what to do about it."""
    if kind not in KINDS:
        raise ApiError("not-found", f"there is no problem type {kind}; there are: {', '.join(KINDS)}")
    return f"{KINDS[kind].title} ({int(KINDS[kind].status)})\n\n{KINDS[kind].help}\n"
