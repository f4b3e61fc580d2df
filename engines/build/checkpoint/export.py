"""Exports torch networks to ONNX with a free batch, and checks that the graph gives the same outputs."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.runtimes import open_runtime

INPUT = "images"
"""The name of an exported graph's input: (n, 3, height, width) float32, normalised."""
TOLERANCE = 1e-4
"""The largest difference between graph and network, as a share of the output's largest value, in float32."""


class ExportError(RuntimeError):
    """The graph does not give the same outputs as the network."""


def export_onnx(network: nn.Module, path: Path, *, height: int, width: int, outputs: Sequence[str]) -> float:
    """Export `network`, in inference mode, to `path` as ONNX for images of this size and any batch.

    outputs: the names of its outputs, in order. The file is written atomically, after it has been checked.
    Returns the largest difference found. Raises ExportError if it is above `TOLERANCE` or the graph takes no batch.
    """
    pair = torch.zeros(2, 3, height, width)  # torch would make a constant of a batch of one
    with _without_chatter():
        program = torch.onnx.export(
            network,
            (pair,),
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: "n"},),
            dynamo=True,
            verbose=False,
        )
    if program is None:  # only the old exporter returns None
        raise ExportError("torch.onnx.export gave no graph")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        draft = Path(folder) / path.name
        program.save(draft, external_data=False)
        found = largest_difference(network, draft, height=height, width=width)
        if not found <= TOLERANCE:  # NaN fails, too
            raise ExportError(f"the exported graph differs from the network by {found:.1e} of its largest output")
        draft.replace(path)
    return found


def largest_difference(network: nn.Module, path: Path, *, height: int, width: int) -> float:
    """Compare the graph at `path` with `network`, on two images in one batch and on one of them alone.

    Returns the largest absolute difference of an output as a share of its largest value. Raises ExportError if the
    graph does not take two images at once, or the network gives values that are not finite.
    """
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        given = network(images)
    expected: tuple[Tensor, ...] = given if isinstance(given, tuple) else (given,)
    if not all(output.isfinite().all() for output in expected):
        raise ExportError("the network itself gives values that are no numbers: its weights are broken")
    with closing(open_runtime(path, precision="fp32", max_batch=2)) as runtime:
        if runtime.spec.max_batch != 2:
            raise ExportError("the exported graph mixes the images of a batch, or takes only one")
        together = runtime.run({INPUT: images.numpy()})
        alone = runtime.run({INPUT: images[1:].numpy()})
    distances = [
        (_distance(both, want), _distance(last, want[1:]))
        for want, both, last in zip(expected, together.values(), alone.values(), strict=True)
    ]
    return float(np.max(distances))  # Python's max may skip NaN


def _distance(given: NDArray[np.float32], expected: Tensor) -> float:
    want = expected.numpy()
    return float(np.abs(given - want).max() / max(np.abs(want).max(), np.finfo(np.float32).tiny))


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals and about optional packages."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
