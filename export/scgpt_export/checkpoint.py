"""A scGPT checkpoint, loaded whole or refused with everything that is wrong or missing.

In: a folder or zip of ``args.json``, ``vocab.json`` and weights, or weights alone and what they lack.
Out: a `Checkpoint`, which builds the reference model. It knows nothing of cells or graphs.
"""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scgpt_export.generator import Generator
from scgpt_export.healing import GENE_TABLE, Heads, config_from, fit, heads_of, heal, missing_args
from scgpt_export.layout import CheckpointFiles, open_files
from scgpt_export.modality_files import told_modalities
from scgpt_export.multiomic import model_class
from scgpt_export.reference import ModelConfig, MultiOmicConfig, ScGPT
from scgpt_export.sidecars import CLS, match_genes, read_args, read_genes, read_names, read_vocabulary, some
from scgpt_export.values import check_values, checked_zeros
from scgpt_export.weights import read_tensors
from scgpt_runtime.errors import CheckpointError, OptionError
from scgpt_runtime.modalities import Modalities

__all__ = ["Checkpoint", "load"]

PRETRAINING_KEY = "flag_encoder.weight"
"""Only scGPT's pretraining code has this tensor; what is saved after fine-tuning lacks it."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights with all that is needed to use them.

    Attributes
    ----------
    config
        What the model is.
    state
        Every tensor of the reference under its name, float32.
    tokens
        The vocabulary, by id.
    args
        Fields of ``args.json``.
    source
        sha256 of each file that was read, by file name.
    labels, batches
        Names of the classes of the heads, in order; empty where there is no such head, or its names are not known.
    modalities
        Of each token of a multi-omic model; None for other models.
    binning_genes
        Genes that binning saw when the model was fine-tuned, by their names in the vocabulary; empty: all of it.
    fine_tuned
        Whether ``<cls>`` carries the value 0, as in scGPT's fine-tuning, rather than the padding value.
    unused
        Keys of the file that the model has no place for.
    missing
        Tensors that the file lacks and inference does not need.
    notes
        What else a reader of `report` should know.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    tokens: list[str]
    args: dict[str, Any]
    source: dict[str, str]
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    modalities: Modalities | None = None
    binning_genes: tuple[str, ...] = ()
    fine_tuned: bool = False
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def cls_id(self) -> int:
        """Token id of ``<cls>``."""
        return self.tokens.index("<cls>")

    @property
    def cls_value(self) -> float:
        """Value that ``<cls>`` carries."""
        return 0.0 if self.fine_tuned else self.config.pad_value

    @property
    def include_zeros(self) -> bool:
        """Whether genes that a cell does not express are tokens."""
        return self.fine_tuned and checked_zeros(self.args)

    def model(self) -> ScGPT:
        """The reference with these weights, in eval mode and without gradients; of a generator see `generator`."""
        with torch.device("meta"):
            model = model_class(self.config)(self.config)
        model.to_empty(device="cpu").load_state_dict(self.state, strict=True)
        return model.eval().requires_grad_(False)

    def generator(self) -> Generator:
        """The same of a perturbation generator (`ModelConfig.generator`)."""
        with torch.device("meta"):
            model = Generator(self.config)
        model.to_empty(device="cpu").load_state_dict(self.state, strict=True)
        return model.eval().requires_grad_(False)

    def _use(self) -> str:
        if self.config.generator is not None:
            return "use: all genes of a cell with their log-normalised values, without <cls>, and which are perturbed"
        return f"use: {'fine-tuned' if self.fine_tuned else 'zero-shot'}, <cls> carries the value {self.cls_value:g}"

    def report(self) -> str:
        """What was found, in lines for people: the model, its heads, and every key not used or not found."""
        c = self.config
        heads = {
            "expression": c.generator is None,
            "expression after a perturbation": c.generator is not None,
            "explicit zeros": c.explicit_zero,
            "expression from the cell embedding": c.mvc,
            f"{c.n_cls} classes": c.n_cls > 0,
            "batch discriminator": c.dab,
            "modalities": c.multiomic is not None and c.multiomic.n_modalities > 0,
        }
        sizes = f"{c.n_layers} layers, width {c.dim}, {c.n_heads} heads, feed-forward {c.d_hid}"
        lines = [
            f"model: {sizes}, vocabulary of {c.n_tokens:,}",
            f"values: {c.value_style}; pooling: {c.pooling}; norm: {c.norm or 'none'}; batch labels: {c.n_batches}",
            f"heads: {', '.join(name for name, there in heads.items() if there)}",
            self._use(),
            *(f"note: {note}" for note in self.notes),
            f"keys not used: {', '.join(self.unused) or 'none'}",
            f"keys not found: {', '.join(self.missing) or 'none'}",
        ]
        return "\n".join(lines)


def load(
    path: Path,
    *,
    base: Path | None = None,
    args: Path | None = None,
    labels: Path | None = None,
    genes: Path | None = None,
    batches: Path | None = None,
    modalities: Path | None = None,
) -> Checkpoint:
    """Load a checkpoint.

    Parameters
    ----------
    path
        A folder with ``args.json``, ``vocab.json`` and ``best_model.pt``, a zip of one, or a weights file alone
        (``.pt`` or ``.safetensors``), as fine-tuning saves it.
    base
        Folder or zip of the pretrained checkpoint, for the ``args.json`` and ``vocab.json`` that `path` lacks.
    args
        An ``args.json`` whose fields go before those of `path` and `base`. Beside scGPT's own fields ``cell_emb_style``
        says how cells are pooled, ``fine_tuned`` (true or false) whether ``<cls>`` carries 0, and ``include_zero_gene``
        whether a fine-tuned model takes genes that a cell does not express.
    labels, batches
        Names of cell types and of batches: a JSON list or mapping, or ``FILE.h5ad:COLUMN`` of ``obs``.
    genes
        The genes that the model was fine-tuned on, by symbol or Ensembl id: a JSON list or mapping, or
        ``FILE.h5ad:COLUMN`` of ``var`` or ``FILE.h5ad:index``.
    modalities
        Of a multi-omic model: JSON with its modalities by number, and their tokens or prefixes
        (`scgpt_export.modality_files`).

    Raises
    ------
    CheckpointError
        Something is missing, damaged or does not fit; the message names all that is missing.
    OptionError
        Names were given for a head that the checkpoint does not have.
    """
    with ExitStack() as stack:
        files = stack.enter_context(open_files(Path(path)))
        spare = stack.enter_context(open_files(Path(base))) if base else CheckpointFiles(None, None, None)
        if files.weights is None:
            raise CheckpointError(
                f"Found no weights in {path}, expected best_model.pt: give a folder or file with them."
            )
        state = heal(read_tensors(files.weights))
        heads = heads_of(state)
        refuse_idle(heads, labels, batches, modalities)
        fields = read_args(file for file in (spare.args, files.args, args) if file)
        vocabulary = files.vocabulary or spare.vocabulary
        bare = files.args is None or files.vocabulary is None
        lacking = what_lacks(heads, fields, named=not bare, labels=labels, batches=batches, modalities=modalities)
        if vocabulary is None:
            lacking.append("vocab.json (--base: the pretrained checkpoint)")
        if lacking or vocabulary is None:
            raise CheckpointError(f"{files.weights.name} lacks what no tensor tells. Give {'; '.join(lacking)}.")
        pad_token = str(fields.get("pad_token", "<pad>"))
        tokens = read_vocabulary(vocabulary, len(state[GENE_TABLE]), pad_token)
        told = told_modalities(Path(modalities), tokens, heads.n_modalities, pad_token) if modalities else None
        multiomic = multiomic_config(heads, told, pad_token)
        config, notes = config_from(state, heads, fields, tokens.index(pad_token), multiomic)
        healed = fit(state, config)
        label_names = read_names(labels, "labels", heads.n_cls) if labels else ()
        batch_names = read_names(batches, "batches", heads.n_batches) if batches else ()
        # A batch is asked for by name, so that those without a name are called by their number.
        batches_by_name = batch_names or tuple(map(str, range(heads.n_batches if heads.needs_batch else 0)))
        binning_genes, genes_note = match_genes(genes, read_genes(genes), tokens) if genes else ((), "")
        fine_tuned = is_fine_tuned(heads, fields, healed.unused, own_args=files.args is not None)
        generates = config.generator is not None
        if genes and generates:
            raise OptionError(
                f"--genes {genes} tells what binning saw, and a perturbation generator bins nothing: leave it out."
            )
        values_notes = () if generates else check_values(config, fields, fine_tuned=fine_tuned)
        return Checkpoint(
            config=config,
            state=healed.state,
            tokens=tokens,
            args=fields,
            source=digests(files, spare, args),
            labels=label_names,
            batches=batches_by_name,
            modalities=told,
            binning_genes=binning_genes,
            fine_tuned=fine_tuned,
            unused=healed.unused,
            missing=healed.missing,
            notes=(
                *notes,
                *values_notes,
                *numbered(classes=label_names, batches=batch_names, modalities=() if told is None else told.names),
                *([genes_note] if genes_note else []),
                *silences(heads, label_names, batch_names, fine_tuned and not genes and not generates),
            ),
        )


def refuse_idle(heads: Heads, labels: Path | None, batches: Path | None, modalities: Path | None) -> None:
    """Raise OptionError for names that name nothing in the checkpoint."""
    idle = {
        "labels": labels if not heads.n_cls else None,
        "batches": batches if not heads.n_batches else None,
        "modalities": modalities if not heads.multiomic else None,
    }
    for option, file in idle.items():
        if file:
            raise OptionError(f"--{option} {file} was given, but the checkpoint has no {option}: leave it out.")


def multiomic_config(heads: Heads, told: Modalities | None, pad_token: str) -> MultiOmicConfig | None:
    """What makes the model a multi-omic one, if anything does."""
    if not heads.multiomic:
        return None
    if told is None or not heads.n_modalities:
        return MultiOmicConfig()
    return MultiOmicConfig(heads.n_modalities, told.names.index(pad_token), told.names.index(CLS))


def what_lacks(
    heads: Heads,
    fields: dict[str, Any],
    *,
    named: bool,
    labels: Path | None,
    batches: Path | None,
    modalities: Path | None,
) -> list[str]:
    """What must be given for a model to be usable, in words; `named` says that names of classes may be missing."""
    absent = missing_args(fields)
    lacking = [f"{' and '.join(absent)} (--base: the pretrained checkpoint, or --args: an args.json)"] if absent else []
    # A classifier of one class is what scGPT builds when nobody asks for one: it was never trained.
    if not named and heads.n_cls > 1 and not labels:
        lacking.append(f"the names of its {heads.n_cls} classes (--labels: JSON, or FILE.h5ad:COLUMN of obs)")
    if not named and heads.needs_batch and not batches:
        lacking.append(f"the names of its {heads.n_batches} batches (--batches: JSON, or FILE.h5ad:COLUMN of obs)")
    if heads.n_modalities and not modalities:
        lacking.append(f"its {heads.n_modalities} modalities and their tokens (--modalities: JSON)")
    return lacking


def is_fine_tuned(heads: Heads, fields: dict[str, Any], unused: tuple[str, ...], *, own_args: bool) -> bool:
    """Whether the weights were saved after fine-tuning, where ``<cls>`` carries 0.

    ``fine_tuned`` in ``args.json`` decides. Without it pretraining is known by its own tensor, or by its own
    ``args.json`` beside weights that have nothing but what pretraining trains (``USE_CLS``: a classifier too).
    """
    if isinstance(said := fields.get("fine_tuned"), bool):
        return said
    if PRETRAINING_KEY in unused:
        return False
    adapted = heads.norm is not None or heads.n_batches > 0 or heads.multiomic
    classifies = heads.n_cls > 0 and fields.get("USE_CLS") is not True
    return adapted or classifies or not own_args


def numbered(**names: tuple[str, ...]) -> tuple[str, ...]:
    """Notes on which row of a head has which name, so that a wrong order shows."""
    return tuple(
        f"{what} by number: {some([f'{number} {name}' for number, name in enumerate(found)])}"
        for what, found in names.items()
        if found
    )


def silences(heads: Heads, labels: tuple[str, ...], batches: tuple[str, ...], genes_unknown: bool) -> tuple[str, ...]:
    """Notes on what was not given and could be done without."""
    said = {
        f"the {heads.n_cls} classes have no names and are numbered": heads.n_cls > 1 and not labels,
        f"the {heads.n_batches} batches have no names and are numbered": heads.needs_batch and not batches,
        "the genes of fine-tuning are not known: binning sees all genes of the vocabulary": genes_unknown,
    }
    return tuple(note for note, applies in said.items() if applies)


def digests(files: CheckpointFiles, spare: CheckpointFiles, args: Path | None) -> dict[str, str]:
    """sha256 of every file that the model was read from; those of the base are under ``base/``."""
    read = {path.name: path for path in (files.weights, files.args, files.vocabulary) if path}
    if spare.args:
        read["base/args.json"] = spare.args
    if spare.vocabulary and not files.vocabulary:
        read["base/vocab.json"] = spare.vocabulary
    if args:
        read["given/args.json"] = Path(args)
    return {name: sha256(path) for name, path in read.items()}


def sha256(path: Path) -> str:
    """sha256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
