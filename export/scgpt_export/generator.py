"""scGPT's perturbation generator in plain PyTorch: the oracle for graphs that predict what a perturbation does.

In: token ids, expression values as they are, a flag for each token that says whether its gene is perturbed, and a
padding mask. Out: the predicted values and the answers of every head. It is made of the parts of
`scgpt_export.reference`; the names of the modules are the keys of the original's state_dict.
"""

from torch import Tensor, nn

from scgpt_export.reference import (
    Classifier,
    ContinuousValueEncoder,
    ExpressionDecoder,
    GeneratorConfig,
    ModelConfig,
    MVCDecoder,
    NormedEmbedding,
    Stack,
    asked,
    decoded,
    ecs_loss,
    padding_bias,
    pooled,
)
from scgpt_runtime.errors import OptionError

__all__ = ["ACTIVATIONS", "FLAGS", "AffineDecoder", "Generator"]

FLAGS = 3
"""Rows of the table of flags: 0 as it is, 1 perturbed, 2 for padding in the original's own default."""

ACTIVATIONS = ("ELU", "GELU", "LeakyReLU", "ReLU", "SELU", "SiLU", "Sigmoid", "Softplus", "Tanh")
"""Classes of ``torch.nn`` that a decoder may pass through; the original takes any by name and names none itself."""


class AffineDecoder(nn.Module):
    """Hidden states and the cell's values to new values: a coefficient times the value, plus a bias."""

    def __init__(self, dim: int, explicit_zero: bool, config: GeneratorConfig) -> None:
        super().__init__()
        self.coeff_decoder = ExpressionDecoder(dim, dim, explicit_zero)
        self.bias_decoder = ExpressionDecoder(dim, dim, explicit_zero)
        self.activation = nn.Identity() if config.activation is None else getattr(nn, config.activation)()
        self.adaptive_bias = config.adaptive_bias

    def forward(self, hidden: Tensor, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Values (B, L) and, with explicit zeros, the probability that they are above zero.

        The mean of a cell without any value counts as 0 in the adaptive bias, where the original divides by zero and
        answers NaN.
        """
        coefficient, nonzero = self.coeff_decoder(hidden)
        bias, _ = self.bias_decoder(hidden)  # the original asks the coefficient alone whether a value is zero
        coefficient, bias = self.activation(coefficient), self.activation(bias)
        if self.adaptive_bias:
            found = (values != 0).sum(dim=1, keepdim=True).clamp(min=1)  # (B, 1)
            bias = bias * (values.sum(dim=1, keepdim=True) / found)
        return coefficient * values + bias, nonzero


class Generator(nn.Module):
    """scGPT's TransformerGenerator, on the path that does not use torch's fused layers.

    No ``<cls>`` is put in front: the cell embedding is what stands at the first token, whatever gene that is.

    Parameters
    ----------
    config
        What the model has; its `ModelConfig.generator` is there.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.generator is None:
            raise OptionError("This config is of a model that embeds cells: build a ScGPT.")
        self.config = config
        dim = config.dim
        self.encoder = NormedEmbedding(config.n_tokens, dim, padding_idx=config.pad_id)
        self.value_encoder = ContinuousValueEncoder(dim, config.dropout)
        self.pert_encoder = nn.Embedding(FLAGS, dim, padding_idx=config.generator.pad_flag)
        self.transformer_encoder = Stack(config)
        self.decoder = AffineDecoder(dim, config.explicit_zero, config.generator)
        self.cls_decoder = Classifier(dim, config.n_cls, config.n_layers_cls) if config.n_cls else None
        self.mvc_decoder = MVCDecoder(dim, dim, config.explicit_zero) if config.mvc else None
        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)

    def embed_tokens(self, ids: Tensor, values: Tensor, flags: Tensor) -> Tensor:
        """What enters the first layer, (B, L, D)."""
        embedded: Tensor = self.encoder(ids) + self.value_encoder(values) + self.pert_encoder(flags)
        return embedded

    def encode(self, ids: Tensor, values: Tensor, flags: Tensor, padding: Tensor) -> Tensor:
        """Hidden states of the last layer, (B, L, D)."""
        hidden: Tensor = self.transformer_encoder(self.embed_tokens(ids, values, flags), padding_bias(padding))
        return hidden

    def pool(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Cell embedding (B, D) from hidden states (B, L, D) and raw values (B, L)."""
        return pooled(hidden, values, self.config.pooling)

    def forward(
        self,
        ids: Tensor,
        values: Tensor,
        flags: Tensor,
        padding: Tensor,
        *,
        cls: bool = False,
        mvc: bool = False,
        ecs: bool = False,
        do_sample: bool = False,
    ) -> dict[str, Tensor]:
        """Everything the original's ``forward`` returns, under its names, and ``cell_emb``.

        Parameters
        ----------
        ids, values, flags, padding
            (B, L): token ids, values as they are, 0 or 1 for each token, and true at padding.
        cls, mvc, ecs
            Which further answers are wanted: class logits, values from the cell embedding, elastic similarity loss.
        do_sample
            Multiply values by a draw of whether they are above zero, as the original always does outside of training;
            needs explicit zeros.
        """
        hidden = self.encode(ids, values, flags, padding)
        cell = self.pool(hidden, values)
        output = {"cell_emb": cell} | decoded("mlm", self.decoder(hidden, values), do_sample)
        if cls:
            output["cls_output"] = asked(self.cls_decoder, "cls", "classifier")(cell)
        if mvc:
            decoder = asked(self.mvc_decoder, "mvc", "decoder from the cell embedding")
            output |= decoded("mvc", decoder(cell, self.encoder(ids)), do_sample)
        if ecs:
            output["loss_ecs"] = ecs_loss(cell, self.config.ecs_threshold)
        return output
