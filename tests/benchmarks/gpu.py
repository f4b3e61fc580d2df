"""The performance of a GPU: python -m tests.benchmarks gpu [--json FILE] [--weights DIR] [--minutes 8]

Images per second of each network, by runtime and batch size, with the share of the matrix units' peak performance;
the whole server against the bare network; preparing on the device against the CPU; the contract of runtimes. Networks
of the papers have recipe weights, RTMDet-nano its publisher's (--weights, or ../shared). Parts that are skipped, for
lack of time or of a requirement, say so in their rows. Exit code 2 without a GPU.

--device cpu --tiny: the same with tiny sizes on a CPU, as a test of the benchmark.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.report import Row, machine, table
from tests.shared import SHARED

if TYPE_CHECKING:
    import torch

    from tests.benchmarks.accelerator.subjects import Subject

_GOAL = 0.85
"""Share of the bare network's images per second that the server must reach."""


_CONTRACT_S = 150.0
"""Time limit of the contract's tests in seconds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. matrix: side of the product that shows the ceiling. seconds: of one measurement."""

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    matrix: int = 8192
    seconds: float = 0.7
    serving: float = 6.0


_TINY = Scale(batch_sizes=(1, 2), matrix=128, seconds=0.02, serving=0.5)


@dataclass(slots=True)
class Measured:
    """A network with what its figures are compared with. flops: of one image. bare: most images a second so far."""

    subject: Subject
    device: torch.device
    flops: float
    ceiling: float
    bare: float = 0.0


@dataclass(slots=True)
class Bench:
    """One run. ends: on the monotonic clock. rows: what was measured so far, which `keep` is given after every part: a
    run that is cut off has not been in vain.
    """

    device: str
    precision: str
    scale: Scale
    ends: float
    folder: Path
    keep: Callable[[Sequence[Row]], None]
    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def part(self, name: str, what: str, way: str = "") -> Iterator[None]:
        """Run a part. If a requirement is missing, add a row that says so."""
        reason = "done"
        try:
            if time.monotonic() > self.ends:
                raise LookupError("no time was left")
            yield
        except Exception as error:  # noqa: BLE001  # whatever fails, the other parts are still worth their time
            if not isinstance(error, LookupError):
                traceback.print_exc()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.rows.append({"part": name, "what": what, "way": way, "note": reason})
        print(f"{name} {what} {way}: {reason}; {self.ends - time.monotonic():.0f} s left", file=sys.stderr, flush=True)
        self.keep(self.rows)

    def network(self, measured: Measured, way: str) -> None:
        """Measure one runtime at every batch size."""
        from tests.benchmarks.accelerator import throughput

        setup = throughput.Setup(
            measured.device, self.precision, self.scale.batch_sizes, self.folder / "plans", self.ends
        )
        opened = getattr(throughput, way)
        with self.part("network", measured.subject.name, way), opened(measured.subject, setup) as found:
            for batch_size, step in found.steps.items():
                rate = throughput.rate(step, found.wait, batch_size, self.scale.seconds)
                if way == "onnxruntime":  # which serves
                    measured.bare = max(measured.bare, rate)
                share = round(rate * measured.flops / measured.ceiling, 3)
                what = {"part": "network", "what": measured.subject.name, "way": found.name, "batch size": batch_size}
                self.rows.append({**what, "images/s": round(rate, 1), "of matrix units": share})

    def around(self, measured: Measured) -> None:
        """Measure preparing and serving."""
        from tests.benchmarks.accelerator.preparing import compare
        from tests.benchmarks.accelerator.served import serve

        subject, scale = measured.subject, self.scale
        if 'family = "heatmap"' in subject.entry:
            with self.part("preparing", subject.name):
                self.rows += compare(subject, measured.device, self.precision, scale.batch_sizes[-1], scale.seconds)
        if subject.entry:
            with self.part("serving", subject.name):
                self.rows += serve(subject, self.device, self.precision, measured.bare, self.folder, scale.serving)

    def contract(self) -> None:
        """Run the tests of this device."""
        from tests.benchmarks.accelerator.contract import hold

        chosen = "cuda or gpu or tensorrt" if self.device == "cuda" else "onnxruntime-cpu and test_refusals"
        with self.part("contract", chosen):
            self.rows += hold(chosen, max(min(self.ends - time.monotonic(), _CONTRACT_S), 1.0))


def run(
    device: str, tiny: bool, minutes: float, weights: Path, keep: Callable[[Sequence[Row]], None] = lambda _: None
) -> list[Row]:
    """Measure; the rows say what each is, and `keep` gets those there are. What takes long and may lack something comes
    last: plans are built.
    """
    import torch

    from tests.benchmarks.accelerator import subjects, throughput

    with tempfile.TemporaryDirectory() as name:
        folder, scale = Path(name), _TINY if tiny else Scale()
        precision, ends = "fp32" if device == "cpu" else "fp16", time.monotonic() + 60 * minutes
        bench = Bench(device, precision, scale, ends, folder, keep)
        where = torch.device(device)
        ceiling = throughput.ceiling(where, bench.precision, scale.matrix, scale.seconds)
        what = f"{scale.matrix} x {scale.matrix} matrices in {bench.precision}"
        bench.rows.append({"part": "ceiling", "what": what, "TFLOP/s": round(ceiling / 1e12, 2)})
        measured: list[Measured] = []
        makers = {"tiny": lambda: subjects.tiny(folder)} if tiny else subjects.subjects(weights, folder)
        for what, make in makers.items():
            with bench.part("network", what, "made"):
                subject = make()
                measured.append(Measured(subject, where, subject.flops(), ceiling))
                bench.network(measured[-1], "eager")
                bench.network(measured[-1], "onnxruntime")
                bench.around(measured[-1])
        bench.contract()
        for way in ("tensorrt_rtx", "tensorrt"):
            for one in measured:
                bench.network(one, way)
    return bench.rows


def lacking(device: str) -> str:
    """Why this machine cannot be measured; "" if it can."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed: pip install 'posewire[torch]'"
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "there is no NVIDIA GPU that PyTorch can use here; --device cpu --tiny shows the benchmark itself"
    return ""


def goals(rows: Sequence[Row]) -> list[str]:
    """Compare the figures with the goals."""
    shares = {row["what"]: row["of bare"] for row in rows if "of bare" in row}
    return [
        f"{what}: {share} of the bare network, at least {_GOAL} was promised: {'yes' if share >= _GOAL else 'no'}"
        for what, share in shares.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--weights", type=Path, default=SHARED / "data/weights", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(arguments)
    if reason := lacking(given.device):
        print(f"nothing measured: {reason}", file=sys.stderr)
        return 2
    import torch

    name = torch.cuda.get_device_name() if given.device == "cuda" else "no GPU"

    def keep(rows: Sequence[Row]) -> None:
        if given.json is not None:
            given.json.write_text(
                json.dumps({"gpu": name, "machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8"
            )

    rows = run(given.device, given.tiny, given.minutes, given.weights, keep)
    print(f"{name}; {machine()}, torch {torch.__version__}")
    print(table(rows))
    print("\n".join(goals(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
