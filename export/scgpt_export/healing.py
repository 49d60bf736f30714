"""Every variant of a scGPT state_dict becomes one: plain key names, float32, and the config that the keys tell.

In: tensors as saved. Out: tensors under the reference's names, and a `ModelConfig`. It opens no file. This is the only
place that knows of other key names than the reference's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from scgpt_export.generator import ACTIVATIONS, FLAGS, Generator
from scgpt_export.multiomic import model_class
from scgpt_export.reference import GeneratorConfig, ModelConfig, MultiOmicConfig, Norm, Pooling, ValueStyle
from scgpt_export.sidecars import some
from scgpt_runtime.errors import CheckpointError

__all__ = ["GENE_TABLE", "Heads", "Healed", "config_from", "fit", "heads_of", "heal", "missing_args"]

GENE_TABLE = "encoder.embedding.weight"
WRAPPER = "module."  # of torch's DataParallel and DistributedDataParallel
ATTENTION = re.compile(r"\.self_attn\.(?:_impl\.)?(Wqkv\.|out_proj\.)")

EMBEDDING_PATH = (
    "encoder.",
    "value_encoder.",
    "pert_encoder.",
    "batch_encoder.",
    "dsbn.",
    "bn.",
    "transformer_encoder.",
)
"""Keys that take part in every embedding: one without a place in the reference means another model."""

EXPLICIT_ZERO = ("decoder.zero_logit.", "decoder.coeff_decoder.zero_logit.", "mvc_decoder.W_zero_logit.")
"""Keys of modules that say how probable a value above zero is."""

COUNTER = ".num_batches_tracked"  # of batch norms; nothing in inference reads it


@dataclass(frozen=True, slots=True)
class Heads:
    """Rows of the heads whose classes have names.

    Attributes
    ----------
    n_cls
        Classes of the classifier, 0 without one.
    n_batches
        Batch labels, 0 without any.
    batch_labels, dab
        Whether the decoders see the batch label, and whether a discriminator tells it.
    norm
        Batch norm on the summed embeddings.
    multiomic, n_modalities
        Whether the model is a multi-omic one, and rows of its table of modalities; 0 without one.
    """

    n_cls: int
    n_batches: int
    batch_labels: bool
    dab: bool
    norm: Norm | None
    multiomic: bool = False
    n_modalities: int = 0

    @property
    def needs_batch(self) -> bool:
        """Whether a cell's batch label is an input of the model."""
        return self.batch_labels or self.norm == "dsbn"


@dataclass(frozen=True, slots=True)
class Healed:
    """Tensors that fit a config.

    Attributes
    ----------
    state
        Every tensor of the reference, in its order.
    unused
        Keys of the file that have no place in the reference.
    missing
        Keys of the reference that the file lacks and inference does not need.
    """

    state: dict[str, Tensor]
    unused: tuple[str, ...]
    missing: tuple[str, ...]


def heal(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename to the plain names and turn to float32.

    Raises
    ------
    CheckpointError
        Two keys mean one tensor, a tensor is neither floating point nor finite, or the model is not whole.
    """
    wrapped = all(key.startswith(WRAPPER) for key in tensors)
    state: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = ATTENTION.sub(plain_attention, key.removeprefix(WRAPPER) if wrapped else key)
        if name in state:
            raise CheckpointError(f"The checkpoint has two tensors for {name}: save the state_dict of one model alone.")
        state[name] = tensor if name.endswith(COUNTER) else as_float32(key, tensor)
    if GENE_TABLE not in state or state[GENE_TABLE].dim() != 2:
        raise CheckpointError(
            f"Found no gene table {GENE_TABLE}, expected a scGPT state_dict. It has {some([*state])}."
        )
    if not indices(state, "transformer_encoder.layers."):
        raise CheckpointError(
            "Found no transformer layer (transformer_encoder.layers.0 and on), expected the whole state_dict of a "
            f"scGPT model. It has {some([*state])}."
        )
    return state


def plain_attention(match: re.Match[str]) -> str:
    """The plain name of an attention tensor: flash attention's fused projection is in_proj, rows in the same order."""
    return f".self_attn.{'in_proj_' if match[1] == 'Wqkv.' else match[1]}"


def as_float32(key: str, tensor: Tensor) -> Tensor:
    """The tensor as dense float32, if it is one of finite floating-point numbers."""
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"The tensor {key} is {tensor.dtype}, expected floating point: quantised files cannot be read."
        )
    if tensor.layout != torch.strided or not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"The tensor {key} has values that are NaN or infinite: this checkpoint is broken.")
    return tensor.detach().to(torch.float32).contiguous()


def heads_of(state: Mapping[str, Tensor]) -> Heads:
    """What the keys tell of classes and batch labels.

    Raises
    ------
    CheckpointError
        Two modules differ in the number of batch labels.
    """
    has_dab = any_under(state, "grad_reverse_discriminator.")
    has_dsbn = any_under(state, "dsbn.bns.")
    counts = {
        "batch_encoder": rows(state, "batch_encoder.embedding.weight"),
        "dsbn": len(indices(state, "dsbn.bns.")),
        "grad_reverse_discriminator": rows(state, "grad_reverse_discriminator.out_layer.weight"),
    }
    known = {name: count for name, count in counts.items() if count}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in known.items())
        raise CheckpointError(f"The checkpoint's modules differ in the number of batch labels ({told}): expected one.")
    dim = state[GENE_TABLE].shape[1]
    n_modalities = rows(state, "mod_encoder.embedding.weight")
    # Modalities widen the decoder as batch labels do.
    wide = columns(state, "decoder.fc.0.weight") == 2 * dim and not n_modalities
    return Heads(
        n_cls=rows(state, "cls_decoder.out_layer.weight") or int(any_under(state, "cls_decoder.")),
        n_batches=max(known.values(), default=0),
        batch_labels=wide or any_under(state, "batch_encoder."),
        dab=has_dab,
        norm="dsbn" if has_dsbn else "batchnorm" if any_under(state, "bn.") else None,
        # Only multi-omic models ask the cell with more than the gene's own vector, be it for batch labels alone.
        multiomic=n_modalities > 0 or columns(state, "mvc_decoder.gene2query.weight") == 2 * dim,
        n_modalities=n_modalities,
    )


def missing_args(args: Mapping[str, Any]) -> list[str]:
    """Fields without which a model cannot be built, since tensors do not tell them."""
    return [field for field in ("nheads", "pad_value") if args.get(field) is None]


def config_from(
    state: Mapping[str, Tensor],
    heads: Heads,
    args: Mapping[str, Any],
    pad_id: int,
    multiomic: MultiOmicConfig | None = None,
) -> tuple[ModelConfig, tuple[str, ...]]:
    """The config that keys and shapes tell, and what they tell otherwise than ``args.json``.

    Raises
    ------
    CheckpointError
        A field of ``args.json`` has a value that no scGPT model can have.
    """
    n_tokens, dim = state[GENE_TABLE].shape
    style = value_style(state, args)
    n_input_bins = rows(state, "value_encoder.embedding.weight") if style == "category" else None
    # Linear, activation and LayerNorm by turns, so every third number is a layer; one more gives the logits.
    linears = [i for i in indices(state, "cls_decoder._decoder.") if i % 3 == 0]
    config = ModelConfig(
        n_tokens=n_tokens,
        dim=dim,
        n_heads=checked_heads(args["nheads"], dim),
        d_hid=rows(state, "transformer_encoder.layers.0.linear1.weight"),
        n_layers=len(indices(state, "transformer_encoder.layers.")),
        pad_id=pad_id,
        pad_value=checked_pad_value(args["pad_value"], n_input_bins),
        value_style=style,
        n_input_bins=n_input_bins,
        pooling=checked_pooling(args.get("cell_emb_style", "cls")),
        norm=heads.norm,
        batch_labels=heads.batch_labels,
        n_batches=heads.n_batches,
        explicit_zero=any(any_under(state, prefix) for prefix in EXPLICIT_ZERO),
        # The query styles of this decoder (fc1, fc2) never ran in scGPT itself, so there is nothing to be faithful to.
        mvc=any_under(state, "mvc_decoder.") and not any_under(state, "mvc_decoder.fc1."),
        n_cls=heads.n_cls,
        n_layers_cls=len(linears) + 1 if heads.n_cls else 3,
        dab=heads.dab,
        multiomic=multiomic,
        generator=generator_of(state, args),
    )
    return config, differences(config, args)


def generator_of(state: Mapping[str, Tensor], args: Mapping[str, Any]) -> GeneratorConfig | None:
    """What makes the model a perturbation generator, where the keys tell that it is one.

    No tensor tells how the decoder's answers go on, nor which flag training left at zero: ``args.json`` may say so
    under the names of the original's arguments, and the tutorial's are taken where it does not.
    """
    if not any_under(state, "pert_encoder."):
        return None
    pad_flag, activation = args.get("pert_pad_id", 0), args.get("decoder_activation")
    if type(pad_flag) is not int or not 0 <= pad_flag < FLAGS:
        raise CheckpointError(f"args.json has pert_pad_id {pad_flag!r}, expected a whole number from 0 to {FLAGS - 1}.")
    if activation is not None and activation not in ACTIVATIONS:
        raise CheckpointError(
            f"args.json has decoder_activation {activation!r}, expected null or one of {', '.join(ACTIVATIONS)}."
        )
    adaptive = args.get("decoder_adaptive_bias", False)
    if not isinstance(adaptive, bool):
        raise CheckpointError(f"args.json has decoder_adaptive_bias {adaptive!r}, expected true or false.")
    return GeneratorConfig(pad_flag, activation, adaptive)


def fit(state: Mapping[str, Tensor], config: ModelConfig) -> Healed:
    """Match tensors with the reference's, key by key and shape by shape.

    Raises
    ------
    CheckpointError
        A tensor that inference needs is missing, has another shape, or has no place though embeddings depend on it.
    """
    with torch.device("meta"):
        expected = (model_class(config) if config.generator is None else Generator)(config).state_dict()
    absent = [key for key in expected if key not in state]
    unused = tuple(key for key in state if key not in expected)
    problems = {
        "Missing": [key for key in absent if not key.endswith(COUNTER)],
        "Of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
            for key, tensor in expected.items()
            if key in state and state[key].shape != tensor.shape
        ],
        "Without a place, though the embedding depends on it": [k for k in unused if k.startswith(EMBEDDING_PATH)],
    }
    if any(problems.values()):
        told = " ".join(f"{problem}: {some(keys)}." for problem, keys in problems.items() if keys)
        raise CheckpointError(
            f"The checkpoint does not hold the model that its keys and args.json tell. {told}{hint(problems)}"
        )
    filled = {key: state.get(key, torch.zeros((), dtype=torch.int64)) for key in expected}
    return Healed(filled, unused, tuple(absent))


def hint(problems: Mapping[str, list[str]]) -> str:
    """What to do next about tensors that do not fit."""
    if any(key.startswith("value_encoder.") for key in problems["Missing"]):
        return ' A model trained with input_emb_style "scaling" has no value encoder: say so in args.json.'
    return " Give the whole state_dict of one TransformerModel."


def value_style(state: Mapping[str, Tensor], args: Mapping[str, Any]) -> ValueStyle:
    """How values are encoded: as the keys tell; where there are none, as ``args.json`` says."""
    if "value_encoder.linear1.weight" in state:
        return "continuous"
    if "value_encoder.embedding.weight" in state:
        return "category"
    said = args.get("input_emb_style", "continuous")
    if said not in get_args(ValueStyle):
        raise CheckpointError(
            f"args.json has input_emb_style {said!r}, expected one of {', '.join(get_args(ValueStyle))}."
        )
    style: ValueStyle = said
    return style


def checked_heads(n_heads: Any, dim: int) -> int:
    """The number of attention heads, if it is one that divides the width."""
    if type(n_heads) is not int or n_heads < 1 or dim % n_heads:
        raise CheckpointError(
            f"args.json has nheads {n_heads!r}, expected a whole number that divides the width {dim}."
        )
    return n_heads


def checked_pad_value(pad_value: Any, n_input_bins: int | None) -> float:
    """The value at padding, if the value encoder can take it."""
    if type(pad_value) not in (int, float) or not abs(pad_value) < float("inf"):
        raise CheckpointError(f"args.json has pad_value {pad_value!r}, expected a number.")
    if n_input_bins is not None and not (0 <= pad_value < n_input_bins and pad_value == int(pad_value)):
        raise CheckpointError(
            f"args.json has pad_value {pad_value!r}, but the model's values are rows 0 to {n_input_bins - 1} of a "
            "table (scGPT's tutorials pad such models with n_bins): give args.json with the value it was trained with."
        )
    return float(pad_value)


def checked_pooling(pooling: Any) -> Pooling:
    """The pooling, if it is one of scGPT's."""
    if pooling not in get_args(Pooling):
        raise CheckpointError(
            f"args.json has cell_emb_style {pooling!r}, expected one of {', '.join(get_args(Pooling))}."
        )
    known: Pooling = pooling
    return known


def differences(config: ModelConfig, args: Mapping[str, Any]) -> tuple[str, ...]:
    """Where ``args.json`` says something else than the tensors, which are believed."""
    told: dict[str, object] = {
        "embsize": config.dim,
        "d_hid": config.d_hid,
        "nlayers": config.n_layers,
        "input_emb_style": config.value_style,
    }
    if config.n_cls:
        told["n_layers_cls"] = config.n_layers_cls
    return tuple(
        f"args.json says {field} {args[field]!r}; the tensors say {value!r} and are believed"
        for field, value in told.items()
        if field in args and args[field] != value
    )


def any_under(state: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether any key begins so."""
    return any(key.startswith(prefix) for key in state)


def indices(state: Mapping[str, Tensor], prefix: str) -> set[int]:
    """The numbers that come right after `prefix` in keys; a gap in them shows as a missing tensor later."""
    heads = (key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix))
    return {int(number) for number in heads if number.isdecimal()}


def rows(state: Mapping[str, Tensor], key: str) -> int:
    """Rows of a tensor, 0 where there is none."""
    return state[key].shape[0] if key in state and state[key].dim() else 0


def columns(state: Mapping[str, Tensor], key: str) -> int:
    """Columns of a matrix, 0 where there is none."""
    return state[key].shape[1] if key in state and state[key].dim() == 2 else 0
