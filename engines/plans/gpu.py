"""The NVIDIA GPUs of this machine, as their driver describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """name: as the driver gives it, such as "NVIDIA H100 80GB HBM3". capability: the compute capability, (9, 0)."""

    name: str
    capability: tuple[int, int]

    @property
    def word(self) -> str:
        """Architecture and name as one word for file names: sm90-nvidia-h100-80gb-hbm3."""
        major, minor = self.capability
        return f"sm{major}{minor}-{re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')}"


def gpu_index(device: str) -> int | None:
    """2 for "cuda:2" and 0 for "cuda"; None for any other device."""
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" and (number or "0").isdigit() else None


def find_gpu(index: int = 0) -> Gpu | None:
    """The GPU with this index among those that CUDA_VISIBLE_DEVICES allows.

    None if there is no such GPU, no driver or no cuda-python.
    """
    try:
        from cuda.bindings import driver
    except ImportError:
        return None
    try:
        (error,) = driver.cuInit(0)
    except RuntimeError:  # the bindings are installed, but not the driver's library
        return None
    if error != driver.CUresult.CUDA_SUCCESS:
        return None
    error, device = driver.cuDeviceGet(index)
    if error != driver.CUresult.CUDA_SUCCESS:
        return None
    _, name = driver.cuDeviceGetName(128, device)
    attribute = driver.CUdevice_attribute
    _, major = driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    _, minor = driver.cuDeviceGetAttribute(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    return Gpu(name.split(b"\0")[0].decode(), (int(major), int(minor)))
