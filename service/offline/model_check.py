"""The work of `posewire models check`: which family reads a graph, its catalogue entry, and one run of it."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.build.checkpoint.built import entry_text
from engines.catalogue import Catalogue, CatalogueError, Model, load
from engines.catalogue.converted import weight_files
from engines.catalogue.models import named_files
from engines.catalogue.tfjs import ConversionError, convert
from engines.crops.runners import CpuCropRunner
from engines.families import open_detector
from engines.families.fits import Fit, fits, taken_outputs
from engines.files import shown
from engines.inputs import GraphPorts
from engines.runtimes import open_runtime
from engines.runtimes.openvino.ports import read_ports
from engines.skeletons import Skeleton
from service.config import Settings
from service.inference.model_registry import image_limits, open_serving
from service.inference.stage import InferenceOptions
from service.media.decode import decode

_SURE = 0.3
"""People with at least this score count as found, as in `posewire image`."""
_SHOWN = 5  # scores


class ModelCheckError(ValueError):
    """The file is no model that can be served, or not the one described; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says of a model. None: found out. size: height and width of the input. detector: "" for none."""

    name: str | None = None
    family: str | None = None
    skeleton: str | None = None
    detector: str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DraftedModel:
    """A catalogue file with the model `name`, and what was found out about it, in lines."""

    name: str
    entry: str
    findings: tuple[str, ...]


def draft_model(path: Path, wishes: Wishes, catalogue: Catalogue) -> DraftedModel:
    """Find the family that reads the graph at `path`, and write its catalogue file. Raises ModelCheckError."""
    graph = _ports(path, wishes.size)
    name = wishes.name or re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+", "-", path.stem).strip("-") or "model"
    fit, *others = _fitting(path, graph, wishes.family)
    skeleton, alike = _skeleton(name, fit, wishes.skeleton, catalogue.skeletons)
    detector = _detector(fit, catalogue.skeletons.get(skeleton or ""), wishes.detector, catalogue)
    findings = [
        f"{shown(path)} takes {graph.image} and gives {', '.join(map(str, graph.outputs))}",
        f"it fits family {fit.family} ({fit.role})" + (f" with skeleton {skeleton}" if skeleton else ""),
        *(f"it also fits family {other.family} ({other.role}): --family {other.family}" for other in others),
        *(f"{other} has {fit.keypoints} keypoints, too: --skeleton {other}" for other in alike),
    ]
    if skeleton and skeleton not in catalogue.skeletons:
        findings.append(
            f"no skeleton has {fit.keypoints} keypoints: [skeletons.{skeleton}] begins one; name them there"
        )
    if detector:
        findings.append(f"{detector}, which is on this machine, finds the people")
    if name in catalogue:
        findings.append(f"there is a model {name} in the catalogue, which this one replaces: --name calls it otherwise")
    colours = f"{fit.pixels.order}, mean {list(fit.pixels.mean)}, std {list(fit.pixels.std)}"
    findings.append(f"assumed, as shapes cannot tell: it takes pixels as usual for the family ({colours})")
    findings += [f"assumed, as shapes cannot tell: {doubt}" for doubt in fit.doubts]
    entry = _entry(path, name, fit, skeleton, detector, catalogue)
    if skeleton and skeleton not in catalogue.skeletons:
        entry += _skeleton_table(skeleton, fit.keypoints or 0)
    return DraftedModel(name, entry, tuple(findings))


def try_model(draft: DraftedModel, image: Path | None) -> str:
    """Run the model once on an image, or on a drawn one, as a server would. Returns the result in a line.

    Raises ModelCheckError, CatalogueError, FetchError, ImageError, OSError.
    """
    data = _drawn() if image is None else image.read_bytes()
    with tempfile.TemporaryDirectory(prefix="posewire-") as folder:
        path = Path(folder, "entry.toml")
        path.write_text(draft.entry, "utf-8")
        catalogue = load([*named_files(), path])
    model = catalogue[draft.name]
    try:
        if model.role == "detector":
            scores, seconds = _detect(model, data)
        else:
            scores, seconds = asyncio.run(_estimate(catalogue, model, data))
    except CatalogueError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:  # from reading outputs of another kind
        raise ModelCheckError(f"family {model.family} cannot read what {draft.name} gives: {error}") from error
    sure = [f"{score:.2f}" for score in sorted(scores, reverse=True) if score >= _SURE]
    best = f"the best score is {max(scores):.2f}" if len(scores) else "there was no candidate"
    found = f"{len(sure)} found (scores {', '.join(sure[:_SHOWN])}{', ...' if len(sure) > _SHOWN else ''})"
    where = "a drawn picture without people" if image is None else shown(image)
    return f"it ran on {where} in {1e3 * seconds:.1f} ms: {found if sure else f'nobody found ({best})'}"


def _ports(path: Path, size: tuple[int, int] | None) -> GraphPorts:
    """What the graph takes and gives; a tfjs model is converted first. Raises ModelCheckError, OSError."""
    try:
        if path.suffix.lower() != ".json":
            return read_ports(path, size)
        with tempfile.TemporaryDirectory(prefix="posewire-") as folder:
            graph = Path(folder, "model.pb")
            graph.write_bytes(convert(path))
            return read_ports(graph, size)
    except ConversionError as error:
        raise ModelCheckError(f"{shown(path)} cannot be converted: {error}") from error
    except ValueError as error:
        raise ModelCheckError(f"{shown(path)} {error}") from error


def _fitting(path: Path, graph: GraphPorts, family: str | None) -> list[Fit]:
    """The fits, the chosen one first."""
    found, takes = fits(graph), taken_outputs()
    gives = f"{shown(path)} gives {', '.join(map(str, graph.outputs))} for {graph.height} x {graph.width} pixels"
    if family is None:
        if not found:
            known = "".join(f"\n  {name}: {outputs}" for name, outputs in takes.items())
            raise ModelCheckError(f"{gives}, which fits no family. They take:{known}")
        return found
    of_family = {name: outputs for name, outputs in takes.items() if name.split()[0] == family}
    if not of_family:
        known = ", ".join(dict.fromkeys(name.split()[0] for name in takes))
        raise ModelCheckError(f"family {family!r} is not one whose graphs can be checked; those are {known}")
    chosen = [fit for fit in found if fit.family == family]
    if not chosen:
        raise ModelCheckError(f"{gives}; family {family} takes {' or '.join(of_family.values())}")
    return chosen


def _skeleton(name: str, fit: Fit, wanted: str | None, known: Mapping[str, Skeleton]) -> tuple[str | None, list[str]]:
    """The skeleton, None for detectors, and others with as many keypoints. It is a new one if there are none."""
    if fit.keypoints is None:
        if wanted is not None:
            raise ModelCheckError(f"family {fit.family} is a {fit.role}, which has no keypoints: leave out --skeleton")
        return None, []
    alike = [skeleton.name for skeleton in known.values() if len(skeleton) == fit.keypoints]
    if wanted is None:
        return (alike[0], alike[1:]) if alike else (f"{name}-{fit.keypoints}", [])
    fitting = f"those with {fit.keypoints} are {', '.join(alike)}" if alike else "no skeleton has as many"
    if wanted not in known:
        raise ModelCheckError(
            f"there is no skeleton {wanted!r}; the graph gives {fit.keypoints} keypoints, and {fitting}"
        )
    if wanted not in alike:
        has = len(known[wanted])
        raise ModelCheckError(f"skeleton {wanted} has {has} keypoints, the graph gives {fit.keypoints}; {fitting}")
    return wanted, []


def _skeleton_table(name: str, keypoints: int) -> str:
    """The table of a skeleton whose keypoints are numbered."""
    names = ", ".join(f'"point-{number}"' for number in range(keypoints))
    head = f'[skeletons.{json.dumps(name)}]  # with limbs = [["NAME", "NAME"], ...] they are drawn'
    return f"\n{head}\nkeypoints = [{names}]\n"


def _detector(fit: Fit, skeleton: Skeleton | None, wanted: str | None, catalogue: Mapping[str, Model]) -> str | None:
    """The detector for an estimator: the one named, or for bodies the first on this machine that gives plain boxes."""
    if wanted:
        if fit.role != "estimator":
            raise ModelCheckError(f"family {fit.family} is a {fit.role}, which takes no detector")
        if catalogue[wanted].role != "detector":
            raise ModelCheckError(f"{wanted} is a {catalogue[wanted].role}, no detector")
        return wanted
    body = skeleton is not None and "left_wrist" in skeleton.keypoints
    if wanted == "" or fit.role != "estimator" or not body or fit.family == "blazepose":
        return None
    here = (m.name for m in catalogue.values() if m.role == "detector" and m.cached)
    return next((name for name in here if catalogue[name].family != "blazepose_detector"), None)


def _entry(
    path: Path, name: str, fit: Fit, skeleton: str | None, detector: str | None, catalogue: Mapping[str, Model]
) -> str:
    remarks = ["# Written by `posewire models check`. Say here what licence the weights have."]
    if fit.role == "estimator" and detector is None:
        known = ", ".join(model.name for model in catalogue.values() if model.role == "detector")
        remarks.append(f'# Add detector = "NAME" ({known}); without one, the whole frame shows one person.')
    remarks += [f"# Assumed: {doubt}." for doubt in fit.doubts]
    whole = Path.cwd() / path
    weights = {".xml": [whole.with_suffix(".bin")], ".json": list(weight_files(whole))}.get(path.suffix.lower(), [])
    files = [{"path": file.name} for file in (whole, *weights)] if weights else None
    keys: dict[str, object] = {
        "title": path.name,
        "role": fit.role,
        "family": fit.family,
        "skeleton": skeleton,
        "detector": detector,
        "licence": "unknown",
        "commercial": False,
        "source": {"kind": "file", "path": str(whole.parent if files else whole)},
        "files": files,
        "options": fit.options,
    }
    return entry_text(name, "\n".join(remarks), keys, fit.pixels)


async def _estimate(catalogue: Catalogue, model: Model, data: bytes) -> tuple[list[float], float]:
    """The scores of all people in an encoded image, and the seconds that it took, of the second of two runs."""
    serving = open_serving(catalogue, [model.name], Settings())
    await serving.start()
    options = InferenceOptions(min_score=0.0, admitted=True)
    try:
        await serving.default.pipeline.image(data, options)
        started = time.perf_counter()
        estimate = await serving.default.pipeline.image(data, options)
        return estimate.poses.scores.tolist(), time.perf_counter() - started
    finally:
        await serving.close(drain_seconds=1.0)


def _detect(model: Model, data: bytes) -> tuple[list[float], float]:
    """The same for a detector, without a pipeline."""
    frame, detector = decode(data, image_limits(Settings())).pixels, open_detector(model)
    with closing(open_runtime(model.fetch(), pixels=model.input, outputs=detector.outputs)) as runtime:
        runner, regions = CpuCropRunner(runtime, model.input), detector.regions(frame.shape[1], frame.shape[0])
        for _ in range(2):
            started = time.perf_counter()
            parts = [detector.decode(runner([frame], [region]).outputs, [region])[0] for region in regions]
            people = detector.merge(parts, regions)
        return people.scores.tolist(), time.perf_counter() - started


def _drawn() -> bytes:
    """A picture of smooth colours as PNG."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return cv2.imencode(".png", cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC))[1].tobytes()
