"""Which modality of the cells is which of the model."""

import numpy as np
import pytest

from scgpt_infer.multiomics.naming import kind_of, paired
from scgpt_runtime.errors import CellsError, OptionError
from scgpt_runtime.modalities import Modalities

BOTH = Modalities(("Protein", "RNA", "<pad>", "<cls>"), np.array([0, 1, 2, 3], np.uint8))
PEAKS = Modalities(("ATAC", "<pad>", "<cls>"), np.array([0, 1, 2], np.uint8))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["rna", "prot"], {"Protein": "prot", "RNA": "rna"}),
        (["Gene Expression", "Antibody Capture", "Peaks"], {"Protein": "Antibody Capture", "RNA": "Gene Expression"}),
        (["X", "protein_counts"], {"Protein": "protein_counts", "RNA": "X"}),
        (["X"], {"RNA": "X"}),
        (["adt"], {"Protein": "adt"}),
    ],
)
def test_usual_names_are_recognised(there, expected):
    assert paired(there, "cells", BOTH, {}, "cite") == expected


def test_a_matrix_that_nothing_tells_of_is_what_the_model_has():
    assert paired(["X"], "cells", PEAKS, {}, "peaks") == {"ATAC": "X"}
    assert kind_of("ATAC peaks") == kind_of("atac")


def test_what_the_user_says_is_all_that_is_read():
    assert paired(["X", "adt"], "cells", BOTH, {"RNA": "X"}, "cite") == {"RNA": "X"}


@pytest.mark.parametrize(
    ("there", "told", "error", "said"),
    [
        (["methylation"], {}, CellsError, "cells has methylation; the model cite has Protein, RNA. Say which"),
        (["adt", "prot"], {}, CellsError, "may be Protein .adt, prot."),
        (["X"], {"RNA": "rna"}, CellsError, "no modality 'rna': cells has X; the model cite has Protein, RNA"),
        (["X"], {"ATAC": "X"}, OptionError, "knows no modality 'ATAC'; it has Protein, RNA"),
    ],
)
def test_both_sides_are_named_where_they_do_not_fit(there, told, error, said):
    with pytest.raises(error, match=said):
        paired(there, "cells", BOTH, told, "cite")
