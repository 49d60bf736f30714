"""scGPT in plain PyTorch, in one file: the oracle that every graph is measured against.

In: token ids, values and a padding mask. Out: hidden states, the cell embedding and the answers of every head. The
names of the modules are the keys of scGPT's own state_dict, so weights load as they are. It knows nothing of genes,
files or ONNX.

Letters in the comments: B cells, L tokens, Q query tokens, D width, H heads, F feed-forward width, C classes.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scgpt_runtime.errors import OptionError

__all__ = ["GeneratorConfig", "Layer", "ModelConfig", "MultiOmicConfig", "ScGPT", "padding_bias"]

ValueStyle = Literal["continuous", "category", "scaling"]
Pooling = Literal["cls", "avg-pool", "w-pool"]
Norm = Literal["dsbn", "batchnorm"]
Domains = Literal["cell", "first"]

LARGEST_VALUE = 512.0
"""The continuous value encoder clamps from above only: the negative marks of mask and padding pass."""

BATCH_NORM_EPS = 6.1e-5
"""Smallest normal number of float16, which scGPT trains its batch norms with."""

CCE_TEMPERATURE = 0.5


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """What a perturbation generator has beside the rest of `ModelConfig`.

    Attributes
    ----------
    pad_flag
        The flag whose vector training leaves at zero: 0, not perturbed, in the original's tutorial.
    activation
        Class of ``torch.nn`` that the decoder's coefficient and bias pass through; None: none.
    adaptive_bias
        Whether the bias is multiplied by the mean of the cell's values that are not zero.
    """

    pad_flag: int = 0
    activation: str | None = None
    adaptive_bias: bool = False


@dataclass(frozen=True, slots=True)
class MultiOmicConfig:
    """What a multi-omic model has beside the rest of `ModelConfig`.

    Attributes
    ----------
    n_modalities
        Rows of the table of modalities, special ones counted; 0 where its decoders see batch labels alone.
    pad, cls
        Numbers of the modalities of ``<pad>``, whose vector training leaves as it is, and of ``<cls>``.
    """

    n_modalities: int = 0
    pad: int = 0
    cls: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that decides which modules a scGPT model has and what they compute.

    Attributes
    ----------
    n_tokens, dim, n_heads, d_hid, n_layers
        Rows of the gene table, width, attention heads, feed-forward width, layers.
    pad_id
        Token id of ``<pad>``.
    pad_value
        Value that padding carries, and ``<cls>`` in zero-shot use.
    dropout
        For training only.
    value_style
        How a value becomes a vector: an MLP of the number, a table of codes, or a factor on the gene's vector.
    n_input_bins
        Rows of the value table; ``category`` only.
    pooling
        How the cell embedding is taken from the hidden states.
    norm
        Batch norm on the summed embeddings: one per batch label, one for all, or none.
    batch_labels
        Whether the decoders see the batch label.
    n_batches
        Number of batch labels; 0 where no module has any.
    explicit_zero
        Whether the decoders also say how probable a value above zero is.
    mvc
        Whether there is a decoder from the cell embedding to gene values.
    n_cls, n_layers_cls
        Classes and layers of the classifier; 0 classes: there is none.
    dab
        Whether there is a discriminator of batches on the cell embedding.
    ecs_threshold
        Similarity that the elastic cell similarity loss pulls towards.
    generator
        What makes the model a perturbation generator (`scgpt_export.generator`); None: it is none.
    multiomic
        What makes the model a multi-omic one (`scgpt_export.multiomic`); None: it is none.
    """

    n_tokens: int
    dim: int
    n_heads: int
    d_hid: int
    n_layers: int
    pad_id: int
    pad_value: float = -2.0
    dropout: float = 0.0
    value_style: ValueStyle = "continuous"
    n_input_bins: int | None = None
    pooling: Pooling = "cls"
    norm: Norm | None = None
    batch_labels: bool = False
    n_batches: int = 0
    explicit_zero: bool = False
    mvc: bool = False
    n_cls: int = 0
    n_layers_cls: int = 3
    dab: bool = False
    ecs_threshold: float = 0.3
    generator: GeneratorConfig | None = None
    multiomic: MultiOmicConfig | None = None

    @property
    def needs_batch(self) -> bool:
        """Whether a cell's batch label changes what the model says of it."""
        return self.batch_labels or self.norm == "dsbn"


# Encoders: what a token is before the first layer ------------------------------------------------------------------


class NormedEmbedding(nn.Module):
    """A table and a LayerNorm: genes, batch labels, and values that are codes."""

    def __init__(self, n_rows: int, dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_rows, dim, padding_idx=padding_idx)
        self.enc_norm = nn.LayerNorm(dim)

    def forward(self, codes: Tensor) -> Tensor:
        normed: Tensor = self.enc_norm(self.embedding(codes.long()))  # (..., D)
        return normed


class ContinuousValueEncoder(nn.Module):
    """An MLP from one number to a vector."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, dim)
        self.linear2 = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        x = values.unsqueeze(-1).clamp(max=LARGEST_VALUE)  # (B, L, 1)
        x = self.linear2(functional.relu(self.linear1(x)))  # (B, L, D)
        encoded: Tensor = self.dropout(self.norm(x))
        return encoded


class DomainNorm(nn.Module):
    """Batch norm with statistics of its own for each batch label; without weights, as scGPT always builds it."""

    def __init__(self, dim: int, n_domains: int) -> None:
        super().__init__()
        self.bns = nn.ModuleList(nn.BatchNorm1d(dim, eps=BATCH_NORM_EPS, affine=False) for _ in range(n_domains))

    def forward(self, x: Tensor, batch: Tensor, domains: Domains = "cell") -> Tensor:
        if self.training:
            # Statistics are learnt as the original learns them: a minibatch belongs to the domain of its first cell.
            trained: Tensor = self.bns[int(batch[0])](x.transpose(1, 2)).transpose(1, 2)
            return trained
        rows = batch[:1] if domains == "first" else batch
        mean = torch.stack([bn.get_buffer("running_mean") for bn in self.bns])[rows]  # (B, D)
        var = torch.stack([bn.get_buffer("running_var") for bn in self.bns])[rows]
        return (x - mean.unsqueeze(1)) / torch.sqrt(var.unsqueeze(1) + BATCH_NORM_EPS)  # (B, L, D)


# The stack ---------------------------------------------------------------------------------------------------------


def padding_bias(padding: Tensor) -> Tensor:
    """Additive attention bias (B, 1, 1, L): minus infinity at padded keys, zero elsewhere.

    Parameters
    ----------
    padding
        (B, L) bool, true at padding.
    """
    bias = torch.zeros(padding.shape, dtype=torch.float32, device=padding.device)
    return bias.masked_fill(padding, float("-inf"))[:, None, None, :]


class Attention(nn.Module):
    """Multi-head attention of some query tokens over all tokens of a cell."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))  # rows: queries, keys, values
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def projected(self, x: Tensor, part: int) -> Tensor:
        """Queries (part 0), keys (1) or values (2) of `x`, of all heads side by side: (B, L, D) to the same."""
        dim = x.shape[-1]
        rows = slice(part * dim, (part + 1) * dim)
        return functional.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def heads(self, x: Tensor, part: int) -> Tensor:
        """The same taken apart by heads, (B, H, L, D/H)."""
        dim = x.shape[-1]
        return self.projected(x, part).reshape(*x.shape[:2], self.n_heads, dim // self.n_heads).transpose(1, 2)

    def forward(self, queries: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = self.heads(queries, 0), self.heads(x, 1), self.heads(x, 2)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, Q, L)
        if bias is not None:
            scores = scores + bias
        weights = self.dropout(scores.softmax(dim=-1))
        mixed: Tensor = self.out_proj((weights @ v).transpose(1, 2).flatten(2))  # (B, Q, D)
        return mixed


class Layer(nn.Module):
    """One post-norm layer: attention, then feed-forward with ReLU, a LayerNorm after each sum."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.dim, config.n_heads, config.dropout)
        self.linear1 = nn.Linear(config.dim, config.d_hid)
        self.linear2 = nn.Linear(config.d_hid, config.dim)
        self.norm1 = nn.LayerNorm(config.dim)
        self.norm2 = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def rows(self, queries: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's output for some of its tokens.

        Parameters
        ----------
        queries
            (B, Q, D): the tokens wanted, as they enter the layer.
        x
            (B, L, D): all tokens of the cells.
        bias
            Additive attention bias that broadcasts to (B, H, Q, L), or None.
        """
        h = self.norm1(queries + self.dropout(self.self_attn(queries, x, bias)))
        fed = self.linear2(self.dropout(functional.relu(self.linear1(h))))  # (B, Q, F) between
        out: Tensor = self.norm2(h + self.dropout(fed))
        return out

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's output for all tokens, (B, L, D)."""
        return self.rows(x, x, bias)


class Stack(nn.Module):
    """The layers, with no norm after the last."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, bias)
        return x


# Heads -------------------------------------------------------------------------------------------------------------


def leaky_mlp(d_in: int, dim: int) -> nn.Sequential:
    """Three linear layers from `d_in` to one number."""
    return nn.Sequential(nn.Linear(d_in, dim), nn.LeakyReLU(), nn.Linear(dim, dim), nn.LeakyReLU(), nn.Linear(dim, 1))


class ExpressionDecoder(nn.Module):
    """Hidden states to values, and to the probability that a value is above zero."""

    def __init__(self, d_in: int, dim: int, explicit_zero: bool) -> None:
        super().__init__()
        self.fc = leaky_mlp(d_in, dim)
        self.zero_logit = leaky_mlp(d_in, dim) if explicit_zero else None

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        value = self.fc(hidden).squeeze(-1)  # (B, L)
        if self.zero_logit is None:
            return value, None
        # scGPT calls these "zero probabilities", but trains them on value > 0.
        return value, self.zero_logit(hidden).squeeze(-1).sigmoid()


class MVCDecoder(nn.Module):
    """The cell embedding, asked by each gene for its value: an inner product."""

    def __init__(self, dim: int, d_cell: int, explicit_zero: bool) -> None:
        super().__init__()
        self.gene2query = nn.Linear(dim, dim)
        self.W = nn.Linear(dim, d_cell, bias=False)
        self.W_zero_logit = nn.Linear(dim, d_cell) if explicit_zero else None

    def forward(self, cell: Tensor, genes: Tensor) -> tuple[Tensor, Tensor | None]:
        query = self.gene2query(genes).sigmoid()  # (B, L, D)
        cell = cell.unsqueeze(-1)  # (B, D or 2D, 1)
        value = (self.W(query) @ cell).squeeze(-1)  # (B, L)
        if self.W_zero_logit is None:
            return value, None
        return value, (self.W_zero_logit(query) @ cell).squeeze(-1).sigmoid()


class Classifier(nn.Module):
    """Cell embedding to logits: cell types with ReLU, batches (the discriminator) with LeakyReLU."""

    def __init__(self, dim: int, n_cls: int, n_layers: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        hidden = range(n_layers - 1)
        self._decoder = nn.ModuleList(m for _ in hidden for m in (nn.Linear(dim, dim), activation(), nn.LayerNorm(dim)))
        self.out_layer = nn.Linear(dim, n_cls)

    def forward(self, cell: Tensor) -> Tensor:
        for module in self._decoder:
            cell = module(cell)
        logits: Tensor = self.out_layer(cell)  # (B, C)
        return logits


def ecs_loss(cell: Tensor, threshold: float) -> Tensor:
    """Elastic cell similarity: pairs of cells more alike than `threshold` should become more so, others less."""
    unit = functional.normalize(cell, dim=1)
    similarity = unit @ unit.T  # (B, B)
    similarity = similarity.masked_fill(torch.eye(len(cell), dtype=torch.bool, device=cell.device), 0.0).relu()
    return (1 - (similarity - threshold) ** 2).mean()


def cce_loss(first: Tensor, second: Tensor) -> Tensor:
    """Contrastive loss: among the second views, each cell should know its own."""
    similarity = functional.cosine_similarity(first.unsqueeze(1), second.unsqueeze(0), dim=-1)  # (B, B)
    return functional.cross_entropy(similarity / CCE_TEMPERATURE, torch.arange(len(first), device=first.device))


# The model ---------------------------------------------------------------------------------------------------------


class ScGPT(nn.Module):
    """scGPT's TransformerModel, on the path that does not use torch's fused layers.

    Parameters
    ----------
    config
        What the model has. Modules that it does not have are None.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.encoder = NormedEmbedding(config.n_tokens, dim, padding_idx=config.pad_id)
        self.value_encoder = value_encoder(config)
        self.batch_encoder = NormedEmbedding(config.n_batches, dim) if config.batch_labels else None
        self.dsbn = DomainNorm(dim, config.n_batches) if config.norm == "dsbn" else None
        self.bn = nn.BatchNorm1d(dim, eps=BATCH_NORM_EPS) if config.norm == "batchnorm" else None
        self.transformer_encoder = Stack(config)
        d_in = 2 * dim if config.batch_labels else dim
        self.decoder = ExpressionDecoder(d_in, dim, config.explicit_zero)
        self.cls_decoder = Classifier(dim, config.n_cls, config.n_layers_cls) if config.n_cls else None
        self.mvc_decoder = MVCDecoder(dim, d_in, config.explicit_zero) if config.mvc else None
        self.grad_reverse_discriminator = Classifier(dim, config.n_batches, 3, nn.LeakyReLU) if config.dab else None
        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)  # the row of <pad> too, as in the original

    def norm(self, x: Tensor, batch: Tensor | None = None, domains: Domains = "cell") -> Tensor:
        """Batch norm of the summed embeddings, (B, L, D) to the same; the identity where the model has none.

        Parameters
        ----------
        batch
            (B,) batch labels; only a model with norms by batch label reads them.
        domains
            ``cell``: each cell is normed with the statistics of its own label. ``first``: all with those of the first
            cell's label, which is what the original does to a minibatch.
        """
        if self.bn is not None:
            normed: Tensor = self.bn(x.transpose(1, 2)).transpose(1, 2)  # the channel axis comes second: (B, D, L)
            return normed
        if self.dsbn is None:
            return x
        if batch is None:
            raise OptionError("This model norms by batch label and none were given: give one for each cell.")
        domain_normed: Tensor = self.dsbn(x, batch, domains)
        return domain_normed

    def embed_tokens(
        self, ids: Tensor, values: Tensor, batch: Tensor | None = None, domains: Domains = "cell"
    ) -> Tensor:
        """What enters the first layer, (B, L, D). Batch labels act through norms only."""
        genes = self.encoder(ids)
        encoded = self.value_encoder(values)
        scaling = self.config.value_style == "scaling"
        return self.norm(genes * encoded.unsqueeze(-1) if scaling else genes + encoded, batch, domains)

    def encode(
        self, ids: Tensor, values: Tensor, padding: Tensor, batch: Tensor | None = None, domains: Domains = "cell"
    ) -> Tensor:
        """Hidden states of the last layer, (B, L, D); padded positions hold what attending from them gives.

        Raises
        ------
        OptionError
            Batch labels are missing, are not the model's, or were given to a model that has no use for them.
        """
        self.check_batch(len(ids), batch)
        hidden: Tensor = self.transformer_encoder(self.embed_tokens(ids, values, batch, domains), padding_bias(padding))
        return hidden

    def scores(
        self, ids: Tensor, values: Tensor, padding: Tensor, batch: Tensor | None = None, domains: Domains = "cell"
    ) -> Tensor:
        """Raw attention scores of the last layer, (B, H, L, L), rows queries: what networks of genes are made of.

        No scale, no softmax and no mask, as the original's tutorial takes them; errors as for `encode`.
        """
        self.check_batch(len(ids), batch)
        x, bias = self.embed_tokens(ids, values, batch, domains), padding_bias(padding)
        *before, last = cast("list[Layer]", list(self.transformer_encoder.layers))
        for layer in before:
            x = layer(x, bias)
        return last.self_attn.heads(x, 0) @ last.self_attn.heads(x, 1).transpose(-1, -2)

    def pool(self, hidden: Tensor, values: Tensor) -> Tensor:
        """Cell embedding (B, D) from hidden states (B, L, D) and raw values (B, L).

        As in the original, the pools take every position, padding too, so with them a cell depends on how far it was
        padded.
        """
        return pooled(hidden, values, self.config.pooling)

    def with_batch(self, x: Tensor, batch: Tensor | None) -> Tensor:
        """What a decoder reads: `x`, (B, L, D) or (B, D), with the batch label's vector behind it where it has one."""
        if self.batch_encoder is None:
            return x
        labels = self.batch_encoder(batch)  # (B, D)
        if x.dim() == 3:
            labels = labels.unsqueeze(1).expand(-1, x.shape[1], -1)
        return torch.cat([x, labels], dim=-1)

    def predict(
        self, hidden: Tensor, batch: Tensor | None = None, mods: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Values (B, L) from hidden states, and how likely they are above zero."""
        refuse_modalities(mods)
        answer: tuple[Tensor, Tensor | None] = self.decoder(self.with_batch(hidden, batch))
        return answer

    def predict_from_cell(
        self, cell: Tensor, ids: Tensor, batch: Tensor | None = None, mods: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Values (B, L) of genes from the cell embedding, and how likely they are above zero."""
        decoder = asked(self.mvc_decoder, "mvc", "decoder from the cell embedding")
        refuse_modalities(mods)
        answer: tuple[Tensor, Tensor | None] = decoder(self.with_batch(cell, batch), self.encoder(ids))
        return answer

    def forward(
        self,
        ids: Tensor,
        values: Tensor,
        padding: Tensor,
        batch: Tensor | None = None,
        mods: Tensor | None = None,
        *,
        cls: bool = False,
        cce: bool = False,
        mvc: bool = False,
        ecs: bool = False,
        do_sample: bool = False,
        domains: Domains = "cell",
    ) -> dict[str, Tensor]:
        """Everything the original's ``forward`` returns, under its names.

        Parameters
        ----------
        ids, values, padding
            (B, L): token ids, values, and true at padding.
        batch
            (B,) batch labels, for a model that has them.
        mods
            (B, L) number of each token's modality, for a multi-omic model.
        cls, cce, mvc, ecs
            Which further answers are wanted: class logits, contrastive loss, values from the cell embedding, elastic
            cell similarity loss.
        do_sample
            Multiply values by a draw of whether they are above zero; needs explicit zeros.
        domains
            See `norm`.

        Returns
        -------
        dict
            ``cell_emb`` (B, D), ``mlm_output`` (B, L), and what else the model has and was asked for:
            ``mlm_zero_probs``, ``cls_output``, ``loss_cce``, ``mvc_output``, ``mvc_zero_probs``, ``loss_ecs``,
            ``dab_output``. The zero probabilities are those of *not* being zero.
        """
        hidden = self.encode(ids, values, padding, batch, domains)
        cell = self.pool(hidden, values)
        output = {"cell_emb": cell}
        output |= decoded("mlm", self.predict(hidden, batch, mods), do_sample)
        if cls:
            output["cls_output"] = asked(self.cls_decoder, "cls", "classifier")(cell)
        if cce:
            if self.config.pooling == "w-pool":
                raise OptionError("cce=True does not go with w-pool, in the original neither: leave it out.")
            second = self.pool(self.encode(ids, values, padding, batch, domains), values)
            output["loss_cce"] = cce_loss(cell, second)
        if mvc:
            output |= decoded("mvc", self.predict_from_cell(cell, ids, batch, mods), do_sample)
        if ecs:
            output["loss_ecs"] = ecs_loss(cell, self.config.ecs_threshold)
        if self.grad_reverse_discriminator is not None:
            output["dab_output"] = self.grad_reverse_discriminator(cell)
        return output

    def check_batch(self, n_cells: int, batch: Tensor | None) -> None:
        """Raise OptionError unless the batch labels are ones that this model can read."""
        known = self.config.n_batches
        if batch is None:
            if self.config.needs_batch:
                raise OptionError(f"This model has {known} batch labels and none were given: give one for each cell.")
            return
        if not self.config.needs_batch and self.config.norm is None:
            raise OptionError("Batch labels were given to a model that was trained without them: leave them out.")
        if batch.shape != (n_cells,):
            raise OptionError(f"Found batch labels of shape {tuple(batch.shape)}, expected ({n_cells},): one a cell.")
        low, high = (int(batch.min()), int(batch.max())) if n_cells else (0, 0)
        if self.config.needs_batch and not 0 <= low <= high < known:
            raise OptionError(f"Found batch labels {low} to {high}, expected 0 to {known - 1}.")


def pooled(hidden: Tensor, values: Tensor, pooling: Pooling) -> Tensor:
    """Cell embedding (B, D) from hidden states (B, L, D) and raw values (B, L), of every position."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "avg-pool":
        return hidden.mean(dim=1)
    return functional.normalize((hidden * values.unsqueeze(-1)).sum(dim=1), dim=1)


def value_encoder(config: ModelConfig) -> nn.Module:
    """The value encoder that a config asks for; scaling has none of its own."""
    if config.value_style == "continuous":
        return ContinuousValueEncoder(config.dim, config.dropout)
    if config.value_style == "scaling":
        return nn.Identity()
    if config.n_input_bins is None:
        raise OptionError("A category value encoder needs n_input_bins, the number of rows of its table.")
    return NormedEmbedding(config.n_input_bins, config.dim)


def refuse_modalities(mods: Tensor | None) -> None:
    """Raise OptionError for modalities that were given to a model that has none."""
    if mods is not None:
        raise OptionError("Modalities were given to a model that was trained without them: leave them out.")


def asked(head: nn.Module | None, flag: str, name: str) -> nn.Module:
    """The head that a flag asks for, or an OptionError."""
    if head is None:
        raise OptionError(f"{flag}=True asks for a {name}, which this model does not have: leave it out.")
    return head


def decoded(name: str, answer: tuple[Tensor, Tensor | None], do_sample: bool) -> dict[str, Tensor]:
    """A decoder's answers under the original's names."""
    value, nonzero = answer
    if nonzero is None:
        return {f"{name}_output": value}
    sampled = torch.bernoulli(nonzero) * value if do_sample else value
    return {f"{name}_output": sampled, f"{name}_zero_probs": nonzero}
