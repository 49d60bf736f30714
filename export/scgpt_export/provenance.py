"""Where a bundle's weights come from, in a form that tells nothing of the machine that made it.

In: a checkpoint. Out: digests, versions, and the part of ``args.json`` that the model depends on.
"""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from scgpt_export.checkpoint import Checkpoint

__all__ = ["built_with", "told_args", "weights_digest"]

_PACKAGES = ("scgpt-infer", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "numpy")

# args.json of public checkpoints also holds the paths and host settings of the cluster that trained them.
_TOLD = (
    "cell_emb_style",
    "d_hid",
    "decoder_activation",
    "decoder_adaptive_bias",
    "dropout",
    "embsize",
    "input_emb_style",
    "input_style",
    "mask_ratio",
    "mask_value",
    "max_seq_len",
    "n_bins",
    "n_layers_cls",
    "nheads",
    "nlayers",
    "pad_token",
    "pad_value",
    "pert_pad_id",
    "training_tasks",
    "trunc_by_sample",
)


def built_with() -> dict[str, str]:
    """Versions of the packages that decide a bundle's bytes, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of the two builds of ONNX Runtime there is one
            continue
    return found


def told_args(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields of ``args.json`` that say what the model is."""
    return {name: checkpoint.args[name] for name in _TOLD if name in checkpoint.args}


# Fields of the configuration that change a vector and that no tensor's shape tells.
_SHAPELESS = ("n_heads", "value_style", "pooling", "norm")


def weights_digest(checkpoint: Checkpoint) -> str:
    """sha256 over name, shape and float32 bytes of every tensor, and over what decides vectors beside them."""
    beside = {name: getattr(checkpoint.config, name) for name in _SHAPELESS}
    beside["binning_genes"] = sorted(checkpoint.binning_genes)
    if checkpoint.modalities is not None:
        beside["modalities"] = checkpoint.modalities.digest
    if checkpoint.config.generator is not None:
        beside["generator"] = asdict(checkpoint.config.generator)
    digest = hashlib.sha256(json.dumps(beside, sort_keys=True).encode())
    for name in sorted(checkpoint.state):
        array = np.ascontiguousarray(checkpoint.state[name].detach().float().numpy())
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
