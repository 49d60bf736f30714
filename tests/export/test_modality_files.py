"""Each token of a multi-omic checkpoint gets its modality, or the file that should tell is refused."""

import json
from pathlib import Path

import pytest

from scgpt_export.modality_files import told_modalities
from scgpt_runtime.errors import CheckpointError

TOKENS = ["CD3E", "chr1-10-20", "p_CD3", "MS4A1", "<pad>", "<cls>", "<eoc>"]
NAMES = ["ATAC", "Protein", "RNA", "<pad>", "<cls>", "<eoc>"]


def told(tmp_path: Path, content: object, n_rows: int = 6) -> list[str]:
    """Name of each token's modality."""
    path = tmp_path / "modalities.json"
    path.write_text(json.dumps(content))
    found = told_modalities(path, TOKENS, n_rows)
    return [found.names[number] for number in found.of_tokens]


EXPECTED = ["RNA", "ATAC", "Protein", "RNA", "<pad>", "<cls>", "<eoc>"]


@pytest.mark.parametrize(
    "rest",
    [
        {"prefixes": {"Protein": "p_", "ATAC": "chr"}},
        {"tokens": {"Protein": ["p_CD3"], "ATAC": ["chr1-10-20"]}},
        {"tokens": {"Protein": ["p_CD3"], "RNA": ["CD3E", "MS4A1"]}},
        {"tokens": {"RNA": ["CD3E", "MS4A1"]}, "prefixes": {"Protein": "p_", "ATAC": "chr"}},
        {"prefixes": {"Protein": "p_", "ATAC": "c", "RNA": ""}} | {"prefixes": {"Protein": "p_", "ATAC": "c"}},
    ],
)
def test_lists_go_before_prefixes_and_one_modality_takes_the_rest(tmp_path: Path, rest: dict[str, object]) -> None:
    assert told(tmp_path, {"modalities": NAMES} | rest) == EXPECTED


def test_names_may_be_a_mapping_and_special_tokens_without_a_modality_of_their_own_are_padding(tmp_path: Path) -> None:
    names = {"RNA": 1, "Protein": 0, "<cls>": 3, "<pad>": 2, "ATAC": 4}
    content = {"modalities": names, "prefixes": {"Protein": "p_", "ATAC": "chr"}}
    assert told(tmp_path, content, 5) == [*EXPECTED[:6], "<pad>"]


def test_a_longer_prefix_goes_first(tmp_path: Path) -> None:
    content = {"modalities": NAMES, "prefixes": {"Protein": "p_", "ATAC": "chr", "RNA": "c"}}
    with pytest.raises(CheckpointError, match="CD3E, MS4A1"):
        told(tmp_path, content)
    content["tokens"] = {"RNA": ["CD3E", "MS4A1"]}
    assert told(tmp_path, content) == EXPECTED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modalities": NAMES[1:]}, "names 5 modalities .*but the checkpoint has 6"),
        ({"modalities": ["a", *NAMES[1:4], "b", "c"]}, "has no modality <cls>"),
        ({"modalities": [*NAMES[:5], "RNA"]}, "RNA more than once"),
        ({"prefixes": {"Protein": "p_"}}, "CD3E, MS4A1, chr1-10-20 are: 2 modalities have neither"),
        ({"prefixes": {"Protein": "q_", "ATAC": "chr"}}, "names Protein, of which the vocabulary has no token"),
        ({"prefixes": {"Proteins": "p_"}}, "has Proteins, which are not among its modalities"),
        ({"prefixes": ["p_"]}, "does not map modalities to names"),
        ({"tokens": {"Protein": "p_CD3"}}, "does not map modalities to names"),
        ({"tokens": {"Protein": ["CD3"]}}, "lists CD3, which the vocabulary does not have"),
        ({"tokens": {"Protein": ["p_CD3"], "RNA": ["p_CD3"]}}, "p_CD3 more than once"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    content = {"modalities": NAMES, "prefixes": {"Protein": "p_", "ATAC": "chr"}}
    with pytest.raises(CheckpointError, match=said):
        told(tmp_path, content | change)


def test_a_list_of_names_alone_does_not_tell_whose_the_tokens_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'names no modalities: expected \{"modalities"'):
        told(tmp_path, NAMES)
