"""What the server says of its networks at /metrics, before and after a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from service.load.connection import Server
from service.load.samples import NetworkUse

_NAMES = ("posewire_batch_size", "posewire_batch_seconds", "posewire_queue_wait_seconds")


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """Sums and counts of histograms, by name and network; empty if the server does not show its metrics."""

    values: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @staticmethod
    async def read(server: Server) -> ServerMetrics:
        """Ask the server. Raises OSError if it cannot be reached."""
        connection = await server.connect()
        try:
            status, body = await connection.ask(server.get("/metrics"))
        finally:
            connection.close()
        return ServerMetrics.parse(body.decode()) if status == 200 else ServerMetrics()

    @staticmethod
    def parse(text: str) -> ServerMetrics:
        """Read Prometheus' text format. Anything else gives empty metrics."""
        found: defaultdict[tuple[str, str], float] = defaultdict(float)
        try:
            for family in text_string_to_metric_families(text):
                if family.name in _NAMES:
                    for sample in family.samples:
                        if sample.name.endswith(("_sum", "_count")):
                            found[sample.name, sample.labels.get("network", "")] += sample.value
        except ValueError:  # a proxy's page
            return ServerMetrics()
        return ServerMetrics(found)

    def since(self, before: ServerMetrics, seconds: float) -> dict[str, NetworkUse]:
        """What each network did in the `seconds` between two readings. Networks that did nothing are left out."""
        uses = {}
        for network in sorted({network for _, network in self.values}):

            def change(name: str, network: str = network) -> float:
                return self.values.get((name, network), 0.0) - before.values.get((name, network), 0.0)

            batches = change("posewire_batch_seconds_count")
            if batches > 0:
                waits = max(1.0, change("posewire_queue_wait_seconds_count"))
                uses[network] = NetworkUse(
                    busy=change("posewire_batch_seconds_sum") / seconds,
                    batch=change("posewire_batch_size_sum") / batches,
                    wait_ms=1e3 * change("posewire_queue_wait_seconds_sum") / waits,
                )
        return uses
