"""Stage ``facts``: the machine, its libraries, and whether ONNX Runtime's CUDA provider truly runs there.

found: device {name and facts of the GPU}, versions {package: version}, system {...}, state {nvidia-smi's figures as
found}, runtime {what scgpt_runtime says of driver, GPUs and obstacles}, session {providers of a session that was asked
for CUDA, the error of its product}, useless {why all that follows would measure no GPU; absent where it would}.
"""

import importlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from benchmarks.gpu_visit.part import Ask, Part

__all__ = ["run"]

PACKAGES = (
    *("scgpt-infer", "onnxruntime-gpu", "onnxruntime", "torch", "triton", "numpy", "numba", "onnx", "onnx-ir"),
    *("onnxscript", "cuda-bindings", "nvidia-ml-py", "nvidia-cudnn-cu13", "nvidia-cublas"),
)

STATE = (
    *("name", "driver_version", "vbios_version", "pstate", "clocks.sm", "clocks.mem", "clocks.max.sm"),
    *("clocks.max.mem", "power.draw", "power.limit", "temperature.gpu", "memory.total", "memory.used"),
    *("ecc.mode.current", "mig.mode.current", "compute_mode", "persistence_mode"),
)


def run(ask: Ask, part: Part) -> None:
    """Ask everything that tells what the figures were measured on."""
    part.put("versions", {name: _version(name) for name in PACKAGES})
    part.put("system", _system())
    part.put("state", _state())
    part.put("device", {} if ask.rehearsal else _device())
    part.put("runtime", _runtime())
    part.put("session", _session(ask.rehearsal))
    session = part.found["session"]
    part.say(f"{part.found['device'].get('name', 'no GPU')}; {session.get('error') or session.get('providers')}")
    if not ask.rehearsal and session.get("providers", [""])[0] != "CUDAExecutionProvider":
        part.put("useless", f"ONNX Runtime does not run on the GPU: {session}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _system() -> dict[str, Any]:
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = file.readline().split()[1]
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "processor": ", ".join(sorted(names)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1),
    }


def _state() -> dict[str, str]:
    """What nvidia-smi reads, clocks as found; nothing is set."""
    if shutil.which("nvidia-smi") is None:
        return {"nvidia-smi": "not installed"}
    told = _ask_driver(",".join(STATE))
    if told is not None:
        return dict(zip(STATE, (part.strip() for part in told.split(",")), strict=True))
    # A field that the driver does not know fails the whole question.
    return {field: _ask_driver(field) or "unknown" for field in STATE}


def _ask_driver(fields: str) -> str | None:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None


def _device() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return {"name": _state().get("name", "unknown"), "problem": "PyTorch finds no GPU"}
    about = torch.cuda.get_device_properties(0)
    return {
        "name": about.name,
        "capability": f"{about.major}.{about.minor}",
        "memory_gib": round(about.total_memory / 2**30, 1),
        "processors": about.multi_processor_count,
        "l2_mib": round(getattr(about, "L2_cache_size", 0) / 2**20, 1),
        "cuda_of_torch": torch.version.cuda,
        "cudnn_of_torch": torch.backends.cudnn.version(),
        "gpus": torch.cuda.device_count(),
    }


def _runtime() -> dict[str, Any]:
    """What the runtime itself makes of this machine, problems included."""
    from scgpt_runtime import gpus, providers

    told: dict[str, Any] = {
        "driver": str(gpus.driver()),
        "gpus": [str(gpu) for gpu in gpus.gpus()],
        "why_none": gpus.why_none(),
        "installed": providers.installed(),
    }
    for provider in providers.PROVIDERS:
        told[f"obstacle of {provider}"] = providers.obstacle(provider)
    return told


def _session(rehearsal: bool) -> dict[str, Any]:
    """A product of two matrices in fp16 by a session of its own, beside the runtime's code."""
    import onnxruntime

    told: dict[str, Any] = {"version": onnxruntime.__version__, "offered": onnxruntime.get_available_providers()}
    name = "CPUExecutionProvider" if rehearsal else "CUDAExecutionProvider"
    try:
        if not rehearsal:
            onnxruntime.preload_dlls()
        session = onnxruntime.InferenceSession(_product(), providers=[name])
        x = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float16)
        (found,) = session.run(None, {"x": x})
    except Exception as error:  # whatever its libraries raise is the finding
        return told | {"error": f"{type(error).__name__}: {error}"}
    expected = x.astype(np.float64) @ x.astype(np.float64).T
    error_of = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return told | {"providers": session.get_providers(), "relative_error": error_of}


def _product() -> bytes:
    from onnx import TensorProto, helper

    kinds = {"x": (TensorProto.FLOAT16, [256, 512]), "y": (TensorProto.FLOAT16, [256, 256])}
    x, y = (helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items())
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "product", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized
