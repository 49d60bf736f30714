"""Where it runs: a device as PyTorch names it in, provider and device of the engine out."""

from scgpt_infer.compat.told import tell
from scgpt_infer.options import Provider
from scgpt_runtime.errors import OptionError
from scgpt_runtime.gpus import why_none
from scgpt_runtime.providers import obstacle

__all__ = ["place"]


def place(device: object) -> tuple[Provider, str]:
    """Provider and device for ``cpu``, ``cuda`` or ``cuda:N``, as text or as a ``torch.device``.

    ``cuda`` where no GPU can be used is the processor, as in scGPT's ``embed_data``, and a warning says why.

    Raises
    ------
    OptionError
        When it is another device.
    """
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise OptionError(f"device is {str(device)!r}; expected cpu, cuda, or cuda:N for GPU number N.")
    problem = why_none() or obstacle("cuda")
    if kind == "cuda" and problem is None:
        return "cuda", number or "auto"
    if kind == "cuda":
        tell(f"device is {str(device)!r}, but the processor runs it: {problem}")
    if problem is not None:
        return "auto", "auto"
    return ("cpu" if obstacle("openvino") else "openvino"), "auto"
