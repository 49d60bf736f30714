"""What a drop-in tells those who may not expect it: `CompatWarning`, and `tell`, which points at the caller's line.

It decides nothing.
"""

import inspect
import warnings
from pathlib import Path

__all__ = ["CompatWarning", "tell"]

_HERE = str(Path(__file__).parent)


class CompatWarning(UserWarning):
    """A drop-in does something else than what it was asked for, or than what it stands in for."""


def tell(message: str) -> None:
    """Warn, in the name of the first line of code outside of this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CompatWarning, stacklevel=level)
