"""Which modality each token of a multi-omic checkpoint is of, from the file that ``--modalities`` names.

In: JSON, and the tokens of a vocabulary. Out: `Modalities`. It knows nothing of tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scgpt_export.sidecars import CLS, duplicates, listed, read_json, some
from scgpt_runtime.errors import CheckpointError
from scgpt_runtime.modalities import MOST, Modalities
from scgpt_runtime.vocab import is_special

__all__ = ["told_modalities"]

_EXPECTED = (
    'expected {"modalities": ["Protein", "RNA", "<pad>", "<cls>", "<eoc>"], "prefixes": {"Protein": "p_"}}: the names '
    'by number as the model was trained, and what tells their tokens ("tokens": lists of names, or "prefixes")'
)


def told_modalities(path: Path, tokens: Sequence[str], n_rows: int, pad_token: str = "<pad>") -> Modalities:
    """Read the names of modalities and give each token its own.

    A token is of the modality that lists it under ``tokens``, else of the one whose prefix its name has (the longest),
    else of the one modality that has neither list nor prefix. A special token is of the modality of its own name, or
    of that of padding.

    Parameters
    ----------
    path
        A JSON object with ``modalities`` (a list, or a mapping between names and numbers), and ``tokens`` (modality to
        names) or ``prefixes`` (modality to a prefix) or both.
    tokens
        The vocabulary, by id.
    n_rows
        Rows of the model's table of modalities; 0 where it has none and cells are only binned by modality.
    pad_token
        Name of the padding token.

    Raises
    ------
    CheckpointError
        The file does not fit the model or the vocabulary, or leaves a token without a modality.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "modalities" not in content:
        raise CheckpointError(f"{path.name} names no modalities: {_EXPECTED}.")
    names = _checked_names(path, listed(path, content["modalities"]), n_rows, pad_token)
    prefixes = _of_modalities(path, content, "prefixes", names, str)
    lists = _of_modalities(path, content, "tokens", names, list)
    of = _by_list(path, lists, tokens)
    others = [name for name in names if not is_special(name) and name not in {**prefixes, **lists}]
    left = {token for token in tokens if not is_special(token) and token not in of}
    for prefix, name in sorted(((prefix, name) for name, prefix in prefixes.items()), key=lambda pair: -len(pair[0])):
        found = {token for token in left if token.startswith(prefix)}
        of |= dict.fromkeys(found, name)
        left -= found
    if left and len(others) != 1:
        raise CheckpointError(
            f"{path.name} does not tell of which modality {some(sorted(left))} are: {len(others)} modalities have "
            f"neither tokens nor a prefix ({some(others)}), and one of them can take the rest. Give the others their "
            "tokens or a prefix."
        )
    of |= {token: token if token in names else pad_token for token in tokens if is_special(token)}
    of |= dict.fromkeys(left, *others)
    empty = [name for name in names if not is_special(name) and name not in set(of.values())]
    if empty:
        raise CheckpointError(f"{path.name} names {some(empty)}, of which the vocabulary has no token: {_EXPECTED}.")
    numbers = {name: number for number, name in enumerate(names)}
    return Modalities(tuple(names), np.array([numbers[of[token]] for token in tokens], np.uint8), prefixes)


def _checked_names(path: Path, names: list[str], n_rows: int, pad_token: str) -> list[str]:
    """Names that can be those of the model's table."""
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path.name} names {some(duplicates(names))} more than once: each needs its own name.")
    if n_rows and len(names) != n_rows:
        raise CheckpointError(
            f"{path.name} names {len(names)} modalities ({some(names)}), but the checkpoint has {n_rows}: give those "
            f"that it was trained with, special ones such as {pad_token} and {CLS} too."
        )
    if len(names) > MOST:
        raise CheckpointError(f"{path.name} names {len(names)} modalities, at most {MOST} can be told apart.")
    missing = [special for special in (pad_token, CLS) if special not in names]
    if missing:
        raise CheckpointError(
            f"{path.name} has no modality {' and no '.join(missing)}, which scGPT gives to these tokens: {_EXPECTED}."
        )
    return names


def _of_modalities(
    path: Path, content: Mapping[str, Any], field: str, names: Sequence[str], kind: type[str] | type[list[str]]
) -> dict[str, Any]:
    """An object of the file from modality to a text or a list of texts."""
    found = content.get(field, {})
    if not isinstance(found, dict) or not all(_texts(value, kind) for value in found.values()):
        raise CheckpointError(f"{path.name}: {field!r} does not map modalities to names: {_EXPECTED}.")
    unknown = [name for name in found if name not in names or is_special(name)]
    if unknown:
        raise CheckpointError(f"{path.name}: {field!r} has {some(unknown)}, which are not among its modalities.")
    return dict(found)


def _texts(value: Any, kind: type[str] | type[list[str]]) -> bool:
    """Whether a value is a text, or a list of texts, that is not empty."""
    return isinstance(value, kind) and bool(value) and all(isinstance(part, str) for part in value)


def _by_list(path: Path, lists: Mapping[str, list[str]], tokens: Sequence[str]) -> dict[str, str]:
    """Listed token to its modality."""
    all_listed = [token for found in lists.values() for token in found]
    if twice := duplicates(all_listed):
        raise CheckpointError(f"{path.name} lists {some(twice)} more than once: a token is of one modality.")
    known = set(tokens)
    if unknown := [token for token in all_listed if token not in known or is_special(token)]:
        raise CheckpointError(
            f"{path.name} lists {some(unknown)}, which the vocabulary does not have. Names count as they stand there, "
            "with the prefix of their modality, if it has one."
        )
    return {token: name for name, found in lists.items() for token in found}
