"""Tensors out of a weights file: ``torch.save``'s formats, without ever running code, and safetensors.

In: a path. Out: a dict from key to tensor, as saved. What the keys mean it does not know.
"""

import warnings
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scgpt_runtime.errors import CheckpointError

__all__ = ["read_tensors"]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a flat dict of tensors.

    Raises
    ------
    CheckpointError
        The file is damaged, holds code, or holds something else than a dict of tensors.
    """
    content = read_safetensors(path) if path.suffix.lower() == ".safetensors" else read_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, expected a dict of tensors: save model.state_dict()."
        )
    others = [str(key) for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others or not content:
        found = f"other things under {', '.join(others[:5])}" if others else "nothing"
        raise CheckpointError(f"{path.name} holds {found}, expected tensors alone: save model.state_dict().")
    return content


def read_safetensors(path: Path) -> object:
    """Content of a safetensors file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise damaged(path, error) from error


def read_torch(path: Path) -> object:
    """Content of a file of ``torch.save``. There is no second try with code allowed."""
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols that it did not write; what it cannot read it raises.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if "global" in str(error).lower():  # the pickle asks for a function or class
            raise CheckpointError(
                f"{path.name} holds a pickle with code or objects in it, which is refused and was not run; expected "
                "tensors alone. Where the file is yours, save model.state_dict() or a .safetensors file."
            ) from error
        reason = "it is a pickle, or starts like one, of something else than tensors, which is not run"
        raise damaged(path, reason) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # torch's reader raises whatever a damaged file leads it to
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception | str) -> CheckpointError:
    """The error for a file that ends early or is not what its name says."""
    reason = str(error).split("\n")[0].split(". ")[0].strip()
    if " " not in reason:  # a bare KeyError tells nobody anything
        reason = "its content is not that of torch.save"
    return CheckpointError(
        f"{path.name} ({path.stat().st_size:,} bytes) is not a whole weights file: {reason}. Download or copy it again."
    )
