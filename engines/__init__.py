"""Model files turned into batched functions: arrays in, poses out. Knows no HTTP and no asyncio."""

import sys

# `import openvino` (2026.4) reports itself to its makers' statistics over the network, unless CI=true, and takes a stub
# where it finds no package for that. Here it finds none.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what Python takes for "not there"
