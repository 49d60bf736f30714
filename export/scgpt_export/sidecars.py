"""What lies beside the weights: arguments, vocabulary, and names of classes, batches and genes.

In: JSON files, or a column of an h5ad. Out: checked dicts and lists. It knows nothing of tensors.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from scgpt_export.genes import build_vocabulary
from scgpt_runtime.errors import CheckpointError
from scgpt_runtime.vocab import is_special, match, stable_id

__all__ = ["match_genes", "read_args", "read_genes", "read_names", "read_vocabulary", "some"]

CLS, EOC = "<cls>", "<eoc>"
SHOWN = 5

LEAST_KNOWN = 0.1
"""Share of the genes of fine-tuning that the vocabulary must have; scGPT drops the others before it bins."""


def read_json(path: Path) -> Any:
    """Content of a JSON file in which no object has a key twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in found).items() if count > 1]
        if twice:
            raise CheckpointError(f"{path.name} has {some(twice)} more than once: each key may stand there once.")
        return dict(found)

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error


def read_args(paths: Iterable[Path]) -> dict[str, Any]:
    """Fields of ``args.json`` files, later ones before earlier ones."""
    merged: dict[str, Any] = {}
    for path in paths:
        fields = read_json(path)
        if not isinstance(fields, dict):
            raise CheckpointError(f"{path.name} holds a {type(fields).__name__}, expected an object with nheads etc.")
        merged |= fields
    return merged


def read_vocabulary(path: Path, n_rows: int, pad_token: str = "<pad>") -> list[str]:
    """Tokens in the order of their ids.

    Parameters
    ----------
    path
        A mapping from token to id, in any order.
    n_rows
        Rows of the gene table. Where it has more than the mapping, the special tokens that the mapping lacks are put
        behind it, as scGPT does: ``<pad>``, ``<cls>``, ``<eoc>``.
    pad_token
        Name of the padding token.

    Raises
    ------
    CheckpointError
        The mapping has gaps, two tokens with one id, no special tokens, or does not fit the table.
    """
    tokens = tokens_by_id(path, read_json(path))
    n_found = len(tokens)
    specials = (pad_token, CLS, EOC)
    for special in specials:
        if special not in tokens and len(tokens) < n_rows:
            tokens.append(special)
    if len(tokens) != n_rows:
        raise CheckpointError(
            f"{path.name} has {n_found:,} tokens ({len(tokens):,} with {', '.join(specials)}), but the gene table "
            f"encoder.embedding.weight has {n_rows:,} rows: give the vocabulary that this model was trained with."
        )
    missing = [special for special in (pad_token, CLS) if special not in tokens]
    if missing:
        raise CheckpointError(f"{path.name} has no {' and no '.join(missing)}, and the gene table has no row to spare.")
    return tokens


def tokens_by_id(path: Path, mapping: Any) -> list[str]:
    """Tokens of a mapping whose ids run from 0 without a gap."""
    if not isinstance(mapping, dict) or not mapping:
        raise CheckpointError(f"{path.name} holds no mapping from token to id: expected such as {{'A1BG': 0, ...}}.")
    odd = [token for token, index in mapping.items() if type(index) is not int or index < 0]
    if odd:
        raise CheckpointError(f"{path.name}: the ids of {some(odd)} are not whole numbers from 0 on.")
    twice = [index for index, count in Counter(mapping.values()).items() if count > 1]
    if twice:
        shared = [token for token, index in mapping.items() if index == twice[0]]
        raise CheckpointError(
            f"{path.name} gives the id {twice[0]} to {some(shared)}, and {len(twice)} ids in all to more than one "
            "token: expected one token an id."
        )
    gaps = sorted(set(range(len(mapping))) - set(mapping.values()))
    if gaps:
        raise CheckpointError(
            f"{path.name} has {len(mapping):,} tokens but none with the id {some(gaps)}: expected ids 0 to "
            f"{len(mapping) - 1:,} without a gap."
        )
    return sorted(mapping, key=mapping.__getitem__)


def read_names(path: Path, what: Literal["labels", "batches"], expected: int) -> tuple[str, ...]:
    """Names of the classes of a head, in the order of its rows.

    Parameters
    ----------
    path
        A JSON list, a JSON mapping from number to name or from name to number, or ``FILE.h5ad:COLUMN``. Of a column of
        ``obs`` the sorted categories are taken, which is how scGPT's tutorials number cell types and batches. They
        number cell types by pandas' codes, so labels that are stored as categories in another order are refused.
    expected
        Rows of the head.
    """
    spec = h5ad_column(path)
    if spec is None:
        names = listed(path, read_json(path))
    elif what == "batches":
        # The tutorials turn batches, but not cell types, into text before they are numbered: "10" before "2".
        names = sorted(map(str, column(*spec, axis="obs").astype("category").cat.categories))
    else:
        names = sorted_categories(path, column(*spec, axis="obs"))
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path.name} names {some(duplicates(names))} more than once: each class needs its own.")
    if len(names) != expected:
        raise CheckpointError(
            f"{path.name} names {len(names)} {what} ({some(names)}), but the checkpoint has {expected}: "
            "give those that it was trained with."
        )
    return tuple(names)


def sorted_categories(path: Path, values: Any) -> list[str]:
    """Categories of a column whose order is beyond doubt: the stored one, if there is any, is the sorted one."""
    stored = list(values.astype("category").cat.categories)  # sorted, where the column was not stored as categories
    expected = sorted(stored)
    if stored != expected:
        raise CheckpointError(
            f"{path.name} is stored as categories in the order {some(stored)}, which is not the sorted one, "
            f"{some(expected)}. The rows of the head follow one of the two, and the file does not tell which: give "
            "--labels a JSON list of the names in the order that the model was trained with."
        )
    return [str(name) for name in stored]


def read_genes(path: Path) -> tuple[str, ...]:
    """Names of the genes that binning saw: a JSON list or mapping, or ``FILE.h5ad:COLUMN`` of ``var`` or its index."""
    spec = h5ad_column(path)
    names = listed(path, read_json(path)) if spec is None else [str(name) for name in column(*spec, axis="var")]
    if not names:
        raise CheckpointError(f"{path.name} names no gene: expected those that the model was fine-tuned on.")
    return tuple(names)


def match_genes(path: Path, names: Sequence[str], tokens: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Vocabulary names of the genes that binning saw, by name or Ensembl id, and a note on how many there are.

    Raises
    ------
    CheckpointError
        Hardly any of them is in the vocabulary.
    """
    vocabulary = build_vocabulary(tokens)
    matched = match(names, vocabulary)
    if matched.n_matched == 0 or matched.n_matched < LEAST_KNOWN * len(names):
        ids = " Ensembl ids were looked up, too." if any(map(stable_id, names)) else ""
        own = [name for name in tokens if not is_special(name)]
        raise CheckpointError(
            f"{path.name}: {matched.n_matched:,} of {len(names):,} genes are in the vocabulary. It names "
            f"{some(names)}; the vocabulary has {some(own)}.{ids} Give --genes the symbols or Ensembl ids that the "
            "model was fine-tuned on (of an h5ad: the column of var that has them)."
        )
    known = dict.fromkeys(vocabulary.tokens[token] for token in matched.columns.tolist() if token >= 0)
    unknown = [name for name, token in zip(names, matched.columns.tolist(), strict=True) if token < 0]
    note = f"{matched.n_matched:,} of {len(names):,} genes of fine-tuning are in the vocabulary"
    return tuple(known), f"{note}, not {some(unknown)}" if unknown else note


def listed(path: Path, content: Any) -> list[str]:
    """Names from a JSON list, or from a mapping between names and numbers in either direction."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        if all(key.isdecimal() for key in content):
            return [content[key] for key in tokens_by_id(path, {key: int(key) for key in content})]
    elif isinstance(content, dict):
        return tokens_by_id(path, content)
    raise CheckpointError(f"{path.name}: expected a list of names, or a mapping between names and numbers from 0 on.")


def h5ad_column(path: Path) -> tuple[Path, str] | None:
    """File and column of ``FILE.h5ad:COLUMN``; None for another path."""
    file, colon, name = str(path).rpartition(":")
    if colon and file.lower().endswith(".h5ad"):
        return Path(file), name
    if path.suffix.lower() == ".h5ad":
        raise CheckpointError(f"{path} does not say which column: write {path}:COLUMN.")
    return None


def column(path: Path, name: str, axis: Literal["obs", "var"]) -> Any:
    """A column of an h5ad's ``obs`` or ``var`` as a pandas Series; ``index`` is its index."""
    import anndata  # here, since a checkpoint is most often its own folder, and a machine that exports may have none

    try:
        with warnings.catch_warnings():
            # anndata warns of old formats and repeated names, which matter nothing here.
            warnings.simplefilter("ignore")
            cells = anndata.io.read_h5ad(path, backed="r")
            frame = getattr(cells, axis)
            cells.file.close()
    except Exception as error:  # h5py and anndata raise whatever a damaged file leads them to
        raise CheckpointError(f"{path} cannot be read as h5ad: {error}.") from error
    if name in frame.columns:
        return frame[name]
    if name == "index":
        return frame.index.to_series()
    raise CheckpointError(f"{path.name} has no column {name!r} in {axis}: it has {some(list(frame.columns))}.")


def duplicates(names: Sequence[str]) -> list[str]:
    """Names that stand there more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def some(things: Sequence[object]) -> str:
    """The first few of a list, in words."""
    shown = ", ".join(map(str, things[:SHOWN]))
    return f"{shown} and {len(things) - SHOWN:,} more" if len(things) > SHOWN else shown or "none"
