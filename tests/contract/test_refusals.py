"""Invalid feeds are refused with a message that says what fits, and the runtime keeps working."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.runtimes import Runtime
from tests.contract.network import INPUT, crops


@pytest.mark.parametrize(
    ("feeds", "complaint"),
    [
        ({"picture": crops(1)}, "inputs are image, not picture"),
        ({}, "inputs are image, not none"),
        ({INPUT: crops(1), "mask": crops(1)}, "inputs are image, not image, mask"),
        ({INPUT: crops(1).astype(np.float32)}, r"takes \(n, 64, 48, 3\) uint8, not \(1, 64, 48, 3\) float32"),
        ({INPUT: crops(1)[:, :32]}, r"takes \(n, 64, 48, 3\) uint8, not \(1, 32, 48, 3\)"),
        ({INPUT: crops(1)[0]}, r"takes \(n, 64, 48, 3\) uint8, not \(64, 48, 3\)"),
        ({INPUT: crops(0)}, r"a batch has 1\.\."),
        ({INPUT: crops(100)}, r"a batch has 1\.\."),
    ],
)
def test_invalid_feeds_are_refused(runtime: Runtime, feeds: dict[str, NDArray[np.uint8]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        runtime.run(feeds)
    assert len(runtime.run({INPUT: crops(1)})["heatmaps"]) == 1


def test_outputs_that_the_graph_does_not_have_are_refused(opened: Callable[..., Runtime]) -> None:
    with pytest.raises(
        (ValueError, RuntimeError), match="no output boxes; it has heatmaps, means"
    ):  # raised while it is built
        opened(outputs=("boxes",))
