"""Builds the int8 version of a catalogue model for the CPU: an ONNX graph with Q/DQ nodes and a catalogue file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engines.build.accuracy_gate.evaluation_images import as_inputs, crops_of_images, has_dense_outputs
from engines.build.accuracy_gate.gate import GateReport, compare
from engines.build.checkpoint.built import FIRST_WORDS, entry_text, is_users_own
from engines.build.crop_decoder import crop_decoder
from engines.build.precision.convert import PrecisionError, convert
from engines.catalogue import Model
from engines.runtimes import open_runtime

_FEWEST = 8


@dataclass(frozen=True, slots=True)
class BuiltInt8:
    """The model `name` in the file `catalogue`. kept: see `engines.build.precision.convert.Conversion`."""

    name: str
    graph: Path
    catalogue: Path
    report: GateReport
    kept: Mapping[str, str]


def build_int8(model: Model, catalogue: Mapping[str, Model], images: Path, folder: Path) -> BuiltInt8:
    """Write `<model>-int8.onnx` and a catalogue file for it into `folder`.

    Even crops of `images` are used for calibration, odd ones for the accuracy gate, which runs both graphs in OpenVINO.
    Raises CalibrationError, FetchError, and PrecisionError if the model is not an ONNX graph, there are too few crops,
    or the gate fails. No files are left behind then.
    """
    name = f"{model.name}-int8"
    written = folder / f"{name}.toml"
    if is_users_own(written):
        raise PrecisionError(f"{written} is not a file that was built; choose another folder")
    source = model.fetch()
    if source.suffix != ".onnx":
        raise PrecisionError(f"{model.name} is {source.name}, no ONNX graph; int8 is made of nothing else")
    crops = crops_of_images(images, model, catalogue, limit=256)
    if len(crops) < _FEWEST:
        raise PrecisionError(f"{images} gives {len(crops)} crops; int8 takes at least {_FEWEST}, better 100")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".int8-") as draft_folder:
        draft = Path(draft_folder) / f"{name}.onnx"
        done = convert(source, draft, "int8", calibration=as_inputs(source, crops[::2], model.input))
        expected, given = (open_runtime(path, precision="fp32", pixels=model.input) for path in (source, draft))
        with closing(expected), closing(given):
            [port] = expected.spec.inputs
            batches = [{port.name: crop[None]} for crop in crops[1::2]]
            report = compare(
                expected.run, given.run, batches, crop_decoder(model), "int8", dense=has_dense_outputs(model)
            )
        if not report.passed:
            raise PrecisionError(f"{model.name} is not good enough in int8: {report}; serve it as it is")
        graph = draft.replace(folder / draft.name)
    written.write_text(_entry(model, name, graph, report), "utf-8")
    return BuiltInt8(name, graph, written, report, done.kept)


def _entry(model: Model, name: str, graph: Path, report: GateReport) -> str:
    keys: dict[str, object] = {
        "title": f"{model.title}, int8",
        "role": model.role,
        "family": model.family,
        "skeleton": model.skeleton,
        "detector": model.detector,
        "licence": model.licence,
        "commercial": model.commercial,
        "publisher": model.publisher,
        "accuracy": re.sub(r"^(?=.)", "before int8: ", model.accuracy),
        "source": {"kind": "file", "path": graph.name},
        "options": model.options,
    }
    remark = f"{FIRST_WORDS} --precision int8` from {model.name}. {report}"
    return entry_text(name, remark, keys, model.input)
