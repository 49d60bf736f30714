import numpy as np
import pandas as pd
import pytest

from scgpt_infer.readers.names import GeneNames, texts
from scgpt_runtime.errors import CellsError


def test_a_column_is_read_once_and_only_when_taken():
    read = []

    def load(name: str) -> list[str]:
        read.append(name)
        return [f"{name}-0"]

    names = GeneNames(["chromosome", "gene_ids", "feature_name"], load, "var")
    assert list(names) == ["feature_name", "gene_ids", "index"]
    assert len(names) == 3
    assert read == []
    assert names["gene_ids"] == names["gene_ids"] == ["gene_ids-0"]
    assert names.ask("chromosome") == ["chromosome-0"]
    assert read == ["gene_ids", "chromosome"]


def test_a_column_that_is_not_offered_must_be_asked_for():
    names = GeneNames(["chromosome"], lambda name: [name], "var of cells.h5ad")
    assert "chromosome" not in names
    names.ask("chromosome")
    assert "chromosome" in names
    with pytest.raises(CellsError, match=r"var of cells\.h5ad has no gene column 'gene'; it has chromosome, index"):
        names.ask("gene")


def test_missing_names_are_the_empty_text():
    assert texts([b"caf\xc3\xa9", "a", None, np.nan, pd.NA, pd.NaT, 7, np.str_("b")]) == [
        "café",
        "a",
        *[""] * 4,
        "7",
        "b",
    ]
