"""The environment of a stage: our packages and NVIDIA's libraries.

In: a folder. Out: environment variables. The project need not be installed: on a machine without network it is a
folder of sources.
"""

import importlib.util
import os
from pathlib import Path

__all__ = ["ROOT", "environment"]

ROOT = Path(__file__).resolve().parents[2]

SOURCES = (ROOT, ROOT / "runtime", ROOT / "export")


def environment(cache: Path, hide_gpu: bool = False) -> dict[str, str]:
    """Variables of a stage's process.

    Parameters
    ----------
    cache
        Folder that may be written.
    hide_gpu
        Whether the process must leave the GPU alone, since another measures there.
    """
    about = dict(os.environ)
    about["PYTHONPATH"] = os.pathsep.join([*map(str, SOURCES), *filter(None, [about.get("PYTHONPATH")])])
    libraries = [*_nvidia_libraries(), *filter(None, [about.get("LD_LIBRARY_PATH")])]
    if libraries:
        about["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    about |= {"PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    about["TRITON_CACHE_DIR"] = str(cache / "triton")
    # CUDA graphs do not survive that the tracer goes and comes back; PyTorch sets the same for graphs of its own.
    about |= {"TEARDOWN_CUPTI": "0", "DISABLE_CUPTI_LAZY_REINIT": "1"}
    if hide_gpu:
        about["CUDA_VISIBLE_DEVICES"] = ""
    return about


def _nvidia_libraries() -> list[str]:
    """Folders of CUDA's and cuDNN's libraries as their wheels lay them, ONNX Runtime lying elsewhere."""
    found = importlib.util.find_spec("nvidia")
    if found is None:
        return []
    places = found.submodule_search_locations or ()
    return sorted(str(folder) for place in places for folder in Path(place).glob("*/lib") if folder.is_dir())
