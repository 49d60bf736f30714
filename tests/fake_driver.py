"""GPUs without a GPU: NVIDIA's driver library and NVML as far as `scgpt_runtime.gpus` asks them."""

import types
import uuid
from dataclasses import dataclass

from scgpt_runtime.gpus import Gpu

GIB = 2**30
NUMBER = uuid.UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")


def gpu(index=0, name="NVIDIA H100 80GB HBM3", capability=(9, 0)):
    return Gpu(index, name, capability, 80 * GIB, 79 * GIB, 50 * 2**20, 132, f"GPU-{NUMBER}")


A100 = "NVIDIA A100-SXM4-80GB", (8, 0)
V100 = "Tesla V100-SXM2-16GB", (7, 0)


@dataclass
class Library:
    """``libcuda.so.1``: what its functions write, and the code that ``cuInit`` answers."""

    gpus: tuple = (gpu(),)
    version: int = 13000
    init: int = 0

    def cuInit(self, flags):  # noqa: N802
        return self.init

    def cuDriverGetVersion(self, found):  # noqa: N802
        return _write(found, self.version)

    def cuDeviceGetCount(self, found):  # noqa: N802
        return _write(found, len(self.gpus))

    def cuDeviceGet(self, found, ordinal):  # noqa: N802
        return _write(found, 1000 + ordinal) if ordinal < len(self.gpus) else 101

    def cuDeviceGetName(self, text, size, device):  # noqa: N802
        text.value = self.gpus[device - 1000].name.encode()
        return 0

    def cuDeviceGetAttribute(self, found, attribute, device):  # noqa: N802
        one = self.gpus[device - 1000]
        return _write(found, {75: one.capability[0], 76: one.capability[1], 38: one.l2, 16: one.processors}[attribute])

    def cuDeviceTotalMem_v2(self, found, device):  # noqa: N802
        return _write(found, self.gpus[device - 1000].memory)

    def cuDeviceGetUuid_v2(self, found, device):  # noqa: N802
        found._obj[:] = list(NUMBER.bytes)
        return 0


def nvml(free=79 * GIB, count=1, version="580.65.06", prefix="GPU"):
    """``pynvml`` that knows one GPU by its number."""

    def by_uuid(name):
        if name != f"{prefix}-{NUMBER}":
            raise RuntimeError("Not Found")
        return name

    return types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: version,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(free=free),
    )


def _write(found, value):
    found._obj.value = value
    return 0
