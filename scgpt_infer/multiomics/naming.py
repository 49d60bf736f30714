"""Which modality of the cells is which of the model: as the user says, else by the names that are usual.

In: names. Out: pairs of names, or the error that names both sides. It opens nothing.
"""

import re
from collections.abc import Mapping, Sequence

from scgpt_infer.readers.several import MATRIX
from scgpt_runtime.errors import CellsError
from scgpt_runtime.modalities import Modalities

__all__ = ["kind_of", "paired"]

_USUAL = {
    "rna": ("rna", "gex", "geneexpression", "gene", "genes", "mrna", "scrna", "transcriptome"),
    "protein": (
        *("protein", "proteins", "prot", "adt", "adts", "antibodycapture", "antibody", "ab", "cite"),
        *("proteincounts", "proteinexpression", "proteinraw", "adtcounts", "surfaceprotein"),
    ),
    "atac": ("atac", "peak", "peaks", "atacpeaks", "chromatinaccessibility", "accessibility", "regions"),
}
_KIND = {word: kind for kind, words in _USUAL.items() for word in words}


def kind_of(name: str) -> str:
    """``rna``, ``protein`` or ``atac`` for what is usually called so; else the name itself, in plain small letters."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return _KIND.get(plain, plain)


def paired(
    there: Sequence[str], where: str, modalities: Modalities, told: Mapping[str, str], model: str
) -> dict[str, str]:
    """Modality of the model to modality of the cells, in the model's order.

    Parameters
    ----------
    there
        Modalities of the cells.
    where
        Name of the cells in messages.
    modalities
        Those of the model.
    told
        What the user said; nothing else is taken then. Empty: by name. The cells' matrix, where nothing tells what it
        holds, is RNA, or what the model has if that is one.
    model
        Its name, for messages.

    Raises
    ------
    CellsError
        The cells lack a modality that was named, none is one of the model's, or several may be meant.
    OptionError
        The model lacks one.
    """
    sides = f"{where} has {', '.join(there)}; the model {model} has {', '.join(modalities.measured)}"
    remedy = "Say which is which (--map RNA=rna,Protein=protein_counts; modalities={...})."
    for name, theirs in told.items():
        modalities.number(name)
        if theirs not in there:
            raise CellsError(f"There is no modality {theirs!r}: {sides}. {remedy}")
    if told:
        return {name: told[name] for name in modalities.measured if name in told}
    found: dict[str, str] = {}
    for name in modalities.measured:
        fitting = [theirs for theirs in there if kind_of(theirs) == kind_of(name)]
        if len(fitting) > 1:
            raise CellsError(f"Several modalities may be {name} ({', '.join(fitting)}): {sides}. {remedy}")
        if fitting:
            found[name] = fitting[0]
    left = [name for name in modalities.measured if name not in found]
    if MATRIX in there and left:
        genes = [name for name in left if kind_of(name) == "rna"]
        if genes or len(left) == 1:
            found[(genes or left)[0]] = MATRIX
    if not found:
        raise CellsError(f"No modality is one of the model's: {sides}. {remedy}")
    return {name: found[name] for name in modalities.measured if name in found}
