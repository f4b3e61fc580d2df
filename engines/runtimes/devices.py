"""The devices that a backend can use on this machine, and one runtime over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from engines.plans.gpu import find_gpu
from engines.runtimes import Runtime, open_runtime
from engines.runtimes.multi_device import SpreadRuntime


def visible_devices(backend: str) -> tuple[str, ...]:
    """The devices that CUDA_VISIBLE_DEVICES leaves, or the CPU for backends that run on it.

    For TensorRT those like the first, as a plan is for one kind of GPU.
    """
    if backend == "openvino":
        return ("cpu",)
    if backend == "torch":
        import torch

        usable = torch.cuda.is_available()  # the count tells of GPUs, too, whose driver is too old for this torch
        return tuple(f"cuda:{n}" for n in range(torch.cuda.device_count())) if usable else ("cpu",)
    gpus = list(takewhile(lambda gpu: gpu is not None, map(find_gpu, count())))
    return tuple(f"cuda:{n}" for n, gpu in enumerate(gpus) if gpu == gpus[0])


def gpu_index(device: str) -> int | None:
    """2 for "cuda:2" and 0 for "cuda"; None for what is no GPU."""
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" and (number or "0").isdigit() else None


def open_on(devices: Sequence[str], path: Path, backend: str, **options: Any) -> Runtime:
    """As `open_runtime`, on each of `devices`, which share the calls.

    Raises ValueError for no devices, and for one that is named twice.
    """
    if not devices or len(set(devices)) != len(devices):
        raise ValueError(f"devices must be different ones, at least one, not {', '.join(devices) or 'none'}")
    if len(devices) == 1:
        return open_runtime(path, backend, device=devices[0], **options)
    with ThreadPoolExecutor(len(devices), thread_name_prefix="posewire-open") as pool:
        opening = [pool.submit(open_runtime, path, backend, device=device, **options) for device in devices]
    try:
        return SpreadRuntime([each.result() for each in opening])
    except BaseException:
        for each in opening:
            if each.exception() is None:
                each.result().close()
        raise
