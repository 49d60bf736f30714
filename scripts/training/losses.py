"""Losses on masked values, as scGPT trains them: from tokens, from the cell embedding, and zero against non-zero.

In: a model's answers under scGPT's names, and the batch. Out: losses by name. It knows nothing of files and loops.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional
from training.tokens import Masked

from scgpt_runtime.manifest import TokenizerSettings

SCALE = 5.0
"""Of squared errors in units of the highest bin, so that they are of the size of other losses."""


def value_losses(
    output: Mapping[str, Tensor], batch: Masked, rules: TokenizerSettings, scale: float = SCALE
) -> dict[str, Tensor]:
    """Losses at the masked positions.

    Parameters
    ----------
    output
        ``mlm_output`` and, where the model has them, ``mvc_output``, ``mlm_zero_probs`` and ``mvc_zero_probs``; the
        last two are probabilities of *not* being zero. (B, L) each.
    batch
        What was hidden.
    rules
        The tokenizer's.
    scale
        Factor of the squared errors.

    Returns
    -------
    dict
        ``values``, ``values from the cell``, and with explicit zeros ``zeros`` and ``zeros from the cell``.
    """
    levels = torch.tensor(rules.levels)
    true = levels[batch.target][batch.hidden]
    losses: dict[str, Tensor] = {}
    for name, head in (("", "mlm"), (" from the cell", "mvc")):
        if f"{head}_output" in output:
            told = output[f"{head}_output"][batch.hidden]
            top = rules.n_bins - 1  # bins run to 50: in units of that, errors are of the size of the other losses
            losses[f"values{name}"] = scale * functional.mse_loss(told / top, true / top)
    for name, head in (("", "mlm"), (" from the cell", "mvc")):
        if f"{head}_zero_probs" in output:
            told = output[f"{head}_zero_probs"][batch.hidden].clamp(1e-6, 1 - 1e-6)
            losses[f"zeros{name}"] = functional.binary_cross_entropy(told, (true > 0).float())
    return losses
