"""Model files turned into batched functions: arrays in, poses out. Knows no HTTP and no asyncio."""

import sys

# `import openvino` (2026.4) sends usage data over the network, unless CI=true or the telemetry package is missing.
# This makes the package look missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's marker for a missing module
