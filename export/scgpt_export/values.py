"""What ``args.json`` says of the values at the tokens, checked against the value encoder.

In: fields of ``args.json`` and a `ModelConfig`. Out: notes for people, or a refusal. It knows nothing of cells.
"""

from collections.abc import Mapping
from typing import Any

from scgpt_export.reference import ModelConfig
from scgpt_export.sidecars import some
from scgpt_runtime.errors import CheckpointError
from scgpt_runtime.manifest import TokenizerSettings

__all__ = ["INPUT_STYLES", "MOST_BINS", "ZERO_SHOT_BINS", "check_values", "checked_bins", "checked_zeros"]

INPUT_STYLES = ("binned", "log1p", "normed_raw")
"""How scGPT's preprocessing hands values over (preprocess.py, data_collator.py and the tutorials)."""

ZERO_SHOT_BINS = 51
MOST_BINS = 254  # with mask and padding, codes are one byte


def check_values(config: ModelConfig, args: Mapping[str, Any], *, fine_tuned: bool) -> tuple[str, ...]:
    """Raise CheckpointError where values cannot be what the model was trained on; note what cells must bring.

    Parameters
    ----------
    config
        What the model is.
    args
        Fields of ``args.json``: ``input_style``, ``n_bins``, ``mask_value`` and ``include_zero_gene`` are read here.
    fine_tuned
        Whether ``n_bins`` and ``include_zero_gene`` count; in zero-shot use the original bins with 51 bins and leaves
        zeros out, whatever they say.
    """
    style = args.get("input_style", "binned")
    if style not in INPUT_STYLES:
        raise CheckpointError(f"args.json has input_style {style!r}, expected one of {', '.join(INPUT_STYLES)}.")
    mask_value = args.get("mask_value", -1)
    if type(mask_value) not in (int, float) or not abs(mask_value) < float("inf"):
        raise CheckpointError(f"args.json has mask_value {mask_value!r}, expected a number.")
    notes = zeros_notes(config, args) if fine_tuned else ()
    if style == "binned":
        check_levels(config, checked_bins(args) if fine_tuned else ZERO_SHOT_BINS, mask_value)
        return notes
    if config.value_style == "category":
        raise CheckpointError(
            f"args.json has input_style {style!r}, but the model's values are rows of a table (input_emb_style "
            '"category"), which takes bins alone: give args.json with input_style "binned", or with what it was '
            "trained with."
        )
    return (*notes, f"values are not binned: cells must bring them as the model was trained on them, {style} (--layer)")


def checked_bins(args: Mapping[str, Any]) -> int:
    """The number of bins of a fine-tuned model."""
    n_bins = args.get("n_bins", ZERO_SHOT_BINS)
    if type(n_bins) is not int or not 2 <= n_bins <= MOST_BINS:
        raise CheckpointError(f"args.json has n_bins {n_bins!r}, expected a whole number from 2 to {MOST_BINS}.")
    return n_bins


def checked_zeros(args: Mapping[str, Any]) -> bool:
    """Whether genes without a value were tokens in fine-tuning; the perturbation tutorial says "all" for true."""
    said = args.get("include_zero_gene", False)
    if not isinstance(said, bool) and said != "all":
        raise CheckpointError(
            f"args.json has include_zero_gene {said!r}, expected true or false: whether genes that a cell does not "
            "express were tokens in fine-tuning."
        )
    return bool(said)


def zeros_notes(config: ModelConfig, args: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader should know of the zeros of a fine-tuned model."""
    if checked_zeros(args):
        return (
            "genes that a cell does not express are tokens, too: which genes a file has decides its vectors, and "
            "--genes names those of fine-tuning",
        )
    if config.explicit_zero and "include_zero_gene" not in args:
        return (
            "the model tells zeros from other values, but args.json does not say that zeros were tokens in "
            'fine-tuning, so they are none: if they were, give --args a JSON file with {"include_zero_gene": true}',
        )
    return ()


def check_levels(config: ModelConfig, n_bins: int, mask_value: float) -> None:
    """Raise CheckpointError if a table of values lacks a row for a bin, the mask or padding."""
    rows = config.n_input_bins
    if rows is None:
        return
    settings = TokenizerSettings(0, config.pad_id, n_bins=n_bins, mask_value=mask_value, pad_value=config.pad_value)
    outside = [f"{level:g}" for level in settings.levels if not (0 <= level < rows and level == int(level))]
    if outside:
        raise CheckpointError(
            f"{n_bins} bins, mask_value {mask_value:g} and pad_value {config.pad_value:g} need values that the model "
            f"does not have: {some(outside)}. Its values are rows 0 to {rows - 1} of a table (scGPT's tutorials mask "
            "such models with n_bins + 1 and pad them with n_bins): give args.json with the n_bins, mask_value and "
            'pad_value it was trained with, and "fine_tuned": true where n_bins is not 51.'
        )
