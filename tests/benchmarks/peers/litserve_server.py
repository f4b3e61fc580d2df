"""LitServe with batching, two workers and its fast queue. Runs in its own environment, see `environment`.

python -m tests.benchmarks.peers.litserve_server PORT CATALOGUE MODEL MAX_BATCH TIMEOUT_MS API_SERVERS
"""
# No postponed annotations here: LitServe reads those of decode_request as they are.

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import litserve  # type: ignore[import-not-found]
from fastapi import Body, Response

from engines.poses import Poses
from tests.benchmarks.peers.work import Prepared, Work

_WORKERS = 2


class PoseApi(litserve.LitAPI):  # type: ignore[misc]
    """The work in LitServe's five steps."""

    def __init__(self, catalogue: str, model: str, max_batch: int, timeout_s: float) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=timeout_s, api_path="/pose")
        self._arguments = Path(catalogue), model

    def setup(self, device: str) -> None:  # noqa: ARG002 - its signature is given
        """Open the network, once in each worker: for its share of the cores, as two on all cores would be in each
        other's way.
        """
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(cores)[: max(1, len(cores) // _WORKERS)])
        self._work = Work(*self._arguments)
        os.sched_setaffinity(0, cores)

    def decode_request(self, request: Annotated[bytes, Body()]) -> Prepared:
        """Decode and crop."""
        return self._work.prepare(request)

    def batch(self, inputs: Sequence[Prepared]) -> Sequence[Prepared]:
        """Do nothing: `Work.infer` stacks the inputs itself."""
        return inputs

    def predict(self, batch: Sequence[Prepared]) -> list[tuple[Prepared, Poses]]:
        """Run the batch."""
        return list(zip(batch, self._work.infer(batch), strict=True))

    def unbatch(self, output: list[tuple[Prepared, Poses]]) -> list[tuple[Prepared, Poses]]:
        """Do nothing: the outputs are separate already."""
        return output

    def encode_response(self, output: tuple[Prepared, Poses]) -> Response:
        """Encode to JSON here, because FastAPI's conversion of Python objects is slow."""
        return Response(self._work.answer(*output), media_type="application/json")


if __name__ == "__main__":
    _, port, catalogue, model, max_batch, timeout_ms, api_servers = sys.argv
    api = PoseApi(catalogue, model, int(max_batch), float(timeout_ms) / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=_WORKERS, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(port),
        num_api_servers=int(api_servers),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
