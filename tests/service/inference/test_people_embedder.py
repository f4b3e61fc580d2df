"""The embedder of a server: batched like other networks. Streams go on without it when it cannot be had or fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.catalogue import CatalogueError, load
from engines.inputs import Arrays
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.stage import InferenceOptions
from tests.graphs import save_constant_graph
from tests.scenarios import run

FRAME = np.zeros((48, 64, 3), np.uint8)
BOXES = np.array([[0, 0, 20, 40], [10, 0, 30, 40], [40, 5, 60, 45]], np.float32)
OPTIONS = InferenceOptions(client="stream")
_TABLE = """
[models.looks]
role = "embedder"
family = "embedding"
source = {{ kind = "file", path = "." }}
files = [{{ path = "{file}" }}, {{ path = "looks.bin" }}]
input = {{ width = 16, height = 32 }}
options = {options}
"""


def served(folder: Path, catalogue: Path, *, values: int = 4, file: str = "looks.xml", options: str = "{}") -> Serving:
    """A server's models with an embedder that gives 0, 3, 4, ... for everybody."""
    embedding = np.array([[0, 3, 4, *[0] * values]], np.float32)[:, :values]
    save_constant_graph(folder / "looks.xml", {"embedding": embedding}, 16, 32)
    table = folder / "looks.toml"
    table.write_text(_TABLE.format(file=file, options=options), "utf-8")
    return open_serving(load([catalogue, table]), ["tiny"], Settings(), embedder="looks")


def test_people_get_embeddings_of_length_one_in_one_batch(tmp_path: Path, catalogue: Path) -> None:
    serving = served(tmp_path, catalogue)
    embedder = serving.embedder
    assert embedder is not None
    assert (embedder.name, embedder.size) == ("looks", 4)
    vectors, timing = run(serving, embedder.embed(FRAME, BOXES, OPTIONS))
    assert vectors is not None
    np.testing.assert_allclose(vectors, [[0, 0.6, 0.8, 0]] * 3, atol=1e-6)
    assert timing.infer > 0


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"file": "missing.xml"}, "missing.xml"),
        ({"values": 1}, "an embedding has 2 to 2048 values"),
        ({"options": "{ slope = -1 }"}, "slope"),
        ({"options": '{ output = "other" }'}, "other"),
    ],
)
def test_a_server_starts_without_an_embedder_that_it_cannot_use(
    tmp_path: Path, catalogue: Path, caplog: pytest.LogCaptureFixture, broken: Mapping[str, Any], why: str
) -> None:
    serving = served(tmp_path, catalogue, **broken)
    assert serving.embedder is None
    assert "looks" not in serving.runtimes
    [message] = [record.message for record in caplog.records if "colours alone" in record.message]
    assert why in message
    run(serving, asyncio.sleep(0))


def test_another_model_is_no_embedder_and_an_embedder_no_model(tmp_path: Path, catalogue: Path) -> None:
    with pytest.raises(CatalogueError, match="tiny is no embedder; its role is estimator"):
        open_serving(load([catalogue]), ["tiny"], Settings(), embedder="tiny")
    run(served(tmp_path, catalogue), asyncio.sleep(0))
    with pytest.raises(CatalogueError, match="looks is an embedder, which finds nobody"):
        open_serving(load([catalogue, tmp_path / "looks.toml"]), ["looks"], Settings())


def test_a_failing_network_is_left_alone_for_a_while(
    tmp_path: Path, catalogue: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = served(tmp_path, catalogue)
    embedder, calls = serving.embedder, []
    assert embedder is not None

    def fail(feeds: Arrays) -> Any:
        calls.append(len(next(iter(feeds.values()))))
        raise RuntimeError("no")

    serving.runtimes["looks"].run = fail  # type: ignore[method-assign]

    async def scenario() -> None:
        with caplog.at_level(logging.WARNING):
            assert (await embedder.embed(FRAME, BOXES[:1], OPTIONS))[0] is None
            tried = len(calls)
            assert tried
            for _ in range(3):
                assert (await embedder.embed(FRAME, BOXES[:1], OPTIONS))[0] is None
            assert len(calls) == tried

    run(serving, scenario())
    assert sum("recognised by colours alone" in record.message for record in caplog.records) == 1
