"""scGPT's multi-omic model in plain PyTorch: the oracle for decoders that see the modality of each token.

In: token ids, values, a padding mask, the modality of each token, and batch labels where the model has them. Out: what
`ScGPT` answers. Cells are encoded as `ScGPT` does it, whatever modality their tokens are of: modality and batch label
reach the decoders alone. The names of the modules are the keys of the original's state_dict.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scgpt_export.reference import (
    ExpressionDecoder,
    ModelConfig,
    MultiOmicConfig,
    MVCDecoder,
    NormedEmbedding,
    ScGPT,
    asked,
)
from scgpt_runtime.errors import OptionError

__all__ = ["MultiOmicScGPT", "model_class"]


class MultiOmicScGPT(ScGPT):
    """scGPT's MultiOmicTransformerModel, on the path that does not use torch's fused layers.

    Parameters
    ----------
    config
        What the model has; its `ModelConfig.multiomic` is there, with modalities, batch labels or both.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim, told = config.dim, told_of(config)
        self.mod_encoder = NormedEmbedding(told.n_modalities, dim, padding_idx=told.pad) if told.n_modalities else None
        self.decoder = ExpressionDecoder(2 * dim, dim, config.explicit_zero)
        self.mvc_decoder = MVCDecoder(2 * dim, 2 * dim, config.explicit_zero) if config.mvc else None

    def beside(self, n_tokens: int, batch: Tensor | None, mods: Tensor | None) -> Tensor:
        """What decoders read beside each token: vectors of its modality and of the cell's batch label, added up.

        Parameters
        ----------
        n_tokens
            Tokens of each cell.
        batch
            (B,) batch labels, of a model that has them.
        mods
            (B, L) number of each token's modality, of a model that has them.

        Returns
        -------
        (B, L, D).
        """
        found = []
        if self.mod_encoder is not None:
            if mods is None:
                raise OptionError("This model has modalities and none were given: give one for each token.")
            found.append(self.mod_encoder(mods))
        if self.batch_encoder is not None:
            found.append(self.batch_encoder(batch).unsqueeze(1).expand(-1, n_tokens, -1))
        return torch.stack(found).sum(dim=0) if len(found) > 1 else found[0]

    def predict(
        self, hidden: Tensor, batch: Tensor | None = None, mods: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Values (B, L) from hidden states, and how likely they are above zero."""
        beside = self.beside(hidden.shape[1], batch, mods)
        answer: tuple[Tensor, Tensor | None] = self.decoder(torch.cat([hidden, beside], dim=-1))
        return answer

    def predict_from_cell(
        self, cell: Tensor, ids: Tensor, batch: Tensor | None = None, mods: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Values (B, L) of genes from the cell embedding, and how likely they are above zero.

        The cell's own modality is pooled as its hidden states are: that of the first token, or the mean of all.
        """
        decoder = asked(self.mvc_decoder, "mvc", "decoder from the cell embedding")
        beside = self.beside(ids.shape[1], batch, mods)
        if self.config.pooling == "w-pool" and self.mod_encoder is not None:
            raise OptionError("mvc=True does not go with w-pool and modalities, in the original neither: leave it out.")
        of_cell = beside.mean(dim=1) if self.config.pooling == "avg-pool" else beside[:, 0]
        genes = torch.cat([self.encoder(ids), beside], dim=-1)  # (B, L, 2D)
        answer: tuple[Tensor, Tensor | None] = decoder(torch.cat([cell, of_cell], dim=-1), genes)
        return answer


def told_of(config: ModelConfig) -> MultiOmicConfig:
    """What makes the model a multi-omic one, or an OptionError."""
    told = config.multiomic
    if told is None or not (told.n_modalities or config.batch_labels):
        raise OptionError("This config has neither modalities nor batch labels: it is of a model of one modality.")
    return told


def model_class(config: ModelConfig) -> Callable[[ModelConfig], ScGPT]:
    """The class of the reference that a config is of."""
    return ScGPT if config.multiomic is None else MultiOmicScGPT
