"""The NVIDIA GPU of this machine, asked of its driver."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """name: as the driver says it, such as "NVIDIA H100 80GB HBM3". capability: the compute capability, (9, 0)."""

    name: str
    capability: tuple[int, int]

    @property
    def word(self) -> str:
        """Architecture and name in a word that fits a file's name: sm90-nvidia-h100-80gb-hbm3."""
        major, minor = self.capability
        return f"sm{major}{minor}-{re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')}"


def find_gpu(index: int = 0) -> Gpu | None:
    """The GPU of this index that CUDA_VISIBLE_DEVICES leaves, or None: no GPU, no driver, no cuda-python."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return None
    try:
        (error,) = driver.cuInit(0)
    except RuntimeError:  # the bindings are here, but not the driver's library
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
