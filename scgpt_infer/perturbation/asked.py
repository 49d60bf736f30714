"""What is to be perturbed, and how: `PerturbOptions`, and `Combination`s of genes found in a vocabulary.

In: names as people give them, in options or a file. Out: token ids. It opens no model and reads no cells.
"""

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np

from scgpt_infer.evaluation.profiles import THRESHOLD
from scgpt_infer.wanted import tokens_of
from scgpt_runtime.errors import GenesError, OptionError
from scgpt_runtime.vocab import GeneMode, Vocabulary, is_special

__all__ = ["Combination", "PerturbOptions", "Values", "combinations", "names_of", "read_perturbations"]

Values = Literal["auto", "counts", "log1p"]

SHOWN = 5
NEAR = 3
_NOTHING = ("", "ctrl", "control", "non-targeting")
_HEADS = ("perturbation", "perturbations", "gene", "genes", "condition")


@dataclass(frozen=True, slots=True)
class PerturbOptions:
    """What is asked of a generator.

    Attributes
    ----------
    perturbations
        Combinations such as ``"STAT1"`` or ``"STAT1+IRF1"``. None may be named where there is a truth: then all of it.
    control
        Column of ``obs`` and its value that control cells have. None: all cells are controls.
    cells
        Take so many of the control cells, those with the smallest hash of their names. None: all.
    only
        Names of genes whose predictions are wanted; empty: all. The model sees all genes in any case.
    values
        ``counts``: normalise each cell to 10,000 and take log1p; ``log1p``: values are so already; ``auto``: as the
        source's values are recognised.
    memory
        Bytes that the run may take. None: small batches, and no check.
    truth
        Column of ``obs`` that tells each cell's perturbation: predictions are judged by it.
    truth_cells
        File that has it; None: that of the control cells.
    trained
        Perturbations that the model was trained on: their mean is a baseline, and figures are told apart. Empty: not
        known; the baseline is the mean of all others.
    threshold
        A mean that moves by no more than this is unchanged.

    Raises
    ------
    OptionError
        When a value is not allowed, or two do not go together.
    """

    perturbations: tuple[str, ...] = ()
    control: tuple[str, str] | None = None
    cells: int | None = None
    only: tuple[str, ...] = ()
    values: Values = "auto"
    memory: int | None = None
    truth: str | None = None
    truth_cells: Path | None = None
    trained: tuple[str, ...] = ()
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        if self.values not in ("auto", "counts", "log1p"):
            raise OptionError(f"values is {self.values!r}; expected auto, counts or log1p.")
        for name, value in (("cells", self.cells), ("memory", self.memory)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1.")
        if not self.threshold >= 0:
            raise OptionError(f"threshold is {self.threshold!r}; expected 0 or a larger number.")
        if not self.perturbations and self.truth is None:
            raise OptionError(
                "Nothing is to be perturbed. Name genes (--perturb A, --perturb A+B, --perturbations FILE; "
                "perturbations=...), or the column of a truth (--truth), of which all is asked then."
            )
        if self.truth is None and (self.truth_cells is not None or self.trained):
            raise OptionError(
                "--truth-cells and --trained (truth_cells, trained) are for judging: name the column of the truth "
                "(--truth, truth=...)."
            )
        if self.truth is not None and self.control is None and self.truth_cells is None:
            raise OptionError(
                "With a truth in the same file, say which of its cells are the controls: --control COLUMN=VALUE "
                "(control=(column, value))."
            )


@dataclass(frozen=True, slots=True)
class Combination:
    """Genes that are perturbed together.

    Attributes
    ----------
    name
        Names in the vocabulary, joined by ``+`` in alphabetical order.
    ids
        Their token ids, ascending: two combinations are one where these are equal.
    """

    name: str
    ids: tuple[int, ...]


def names_of(text: str) -> tuple[str, ...]:
    """Genes of a combination; ``ctrl`` in it, as GEARS writes single genes, stands for none."""
    parts = [part.strip() for part in re.split(r"[+,;\t]", text)]
    return tuple(dict.fromkeys(part for part in parts if part.lower() not in _NOTHING))


def combinations(texts: Iterable[str], vocabulary: Vocabulary, mode: GeneMode = "exact") -> tuple[Combination, ...]:
    """Find the genes of combinations.

    Parameters
    ----------
    texts
        Such as ``"A"`` and ``"A+B"``; Ensembl ids will do.
    vocabulary
        Of the model.
    mode
        ``exact``, or ``alias``: previous and alias symbols too.

    Returns
    -------
    In the order in which they were asked for, each once.

    Raises
    ------
    GenesError
        A gene is unknown to the model, or a text names none.
    """
    asked = {text: names_of(text) for text in texts}
    empty = [text for text, names in asked.items() if not names]
    if empty:
        raise GenesError(f"{empty[0]!r} names no gene to perturb. Write A, or A+B for several at once.")
    names = list(dict.fromkeys(name for combination in asked.values() for name in combination))
    ids = tokens_of(names, vocabulary, mode)
    unknown = [name for name in names if ids[name] < 0]
    if unknown:
        raise GenesError(_unknown(unknown, vocabulary))
    found = (tuple(sorted({ids[name] for name in combination})) for combination in asked.values())
    return tuple(combination_of(tokens, vocabulary) for tokens in dict.fromkeys(found))


def combination_of(ids: Sequence[int], vocabulary: Vocabulary) -> Combination:
    """The combination of these tokens."""
    return Combination("+".join(sorted(vocabulary.tokens[token] for token in ids)), tuple(sorted(ids)))


def read_perturbations(path: Path) -> tuple[str, ...]:
    """Combinations of a file: JSON (a list of texts, or of lists of genes), else one a line.

    In a line genes are separated by ``+``, commas or tabs. A first line such as ``perturbation`` is a heading.

    Raises
    ------
    OptionError
        The file cannot be read, or names nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = _of_json(text) if path.suffix.lower() == ".json" else _of_lines(text)
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(
            f"{path} cannot be read as a list of perturbations: {error}. Expected one combination a line, such as A or "
            'A+B, or JSON such as ["A", ["A", "B"]].'
        ) from error
    if not found:
        raise OptionError(f"{path} names no perturbation. Expected one combination a line, such as A or A+B.")
    return tuple(found)


def _of_json(text: str) -> list[str]:
    told = json.loads(text)
    if not isinstance(told, list):
        raise ValueError("it is no list")
    joined = [entry if isinstance(entry, str) else "+".join(entry) for entry in told]
    return [entry for entry in joined if entry.strip()]


def _of_lines(text: str) -> list[str]:
    rows = [[field.strip() for field in row if field.strip()] for row in csv.reader(text.splitlines())]
    lines = ["+".join(row) for row in rows if row and not row[0].startswith("#")]
    return lines[1:] if lines and lines[0].split("+")[0].lower() in _HEADS else lines


def _unknown(names: Sequence[str], vocabulary: Vocabulary) -> str:
    known = [token for token in vocabulary.tokens if not is_special(token)]
    folded = {token.casefold(): token for token in known}
    told = []
    for name in names[:SHOWN]:
        same = folded.get(name.casefold())
        near = [same] if same else get_close_matches(name.upper(), known, NEAR, 0.7)
        told.append(f"{name} (near: {', '.join(near)})" if near else name)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    some = ", ".join(known[place] for place in np.linspace(0, len(known) - 1, min(SHOWN, len(known))).astype(int))
    return (
        f"The model does not know {', '.join(told)}{more}, which {'was' if len(names) == 1 else 'were'} to be "
        f"perturbed. It knows {len(known):,} genes, such as {some}. Give symbols or Ensembl ids of its vocabulary; "
        "--genes alias (genes='alias') finds older symbols too."
    )
