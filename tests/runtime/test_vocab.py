"""A name resolves alone, the report counts every column, and a misfit is named with the way out."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scgpt_runtime.errors import BundleError, BundleTooNewError, GenesError, OptionError
from scgpt_runtime.vocab import Vocabulary, choose, match

TOKENS = (
    "ACTB",
    "GAPDH",
    "MT-ND1",
    "SEPTIN2",
    "CD3E",
    "MS4A1",
    "ENSG00000283886",
    "ENSG00000275493.2",
    "<pad>",
    "<cls>",
)
VOCABULARY = Vocabulary(
    tokens=TOKENS,
    ensembl={"ENSG00000075624": 0, "ENSG00000111640": 1, "ENSG00000275493": 7},
    aliases={"SEPT2": 3, "NEDD5": 3, "G3PD": 1, "CD20": 5},
    versions={"GENCODE": "44, 48", "HGNC": "2020-05-27"},
)
GOOD = ["ACTB", "GAPDH", "MT-ND1", "SEPTIN2", "CD3E", "MS4A1"]


def columns(names, mode="exact"):
    return match(names, VOCABULARY, mode).columns.tolist()


def test_exact_name_comes_before_ensembl_id():
    assert columns(["GAPDH", "ACTB", "nothing"]) == [1, 0, -1]
    assert columns(["ENSG00000283886", "ENSG00000275493.2"]) == [6, 7]


@pytest.mark.parametrize("version", ["", ".1", ".17"])
def test_ensembl_id_resolves_with_and_without_version(version):
    names = [f"ENSG00000075624{version}", f"ENSG00000283886{version}", f"ENSG00000275493{version}"]
    assert columns(names) == [0, 6, 7]


@pytest.mark.parametrize(
    "name",
    ["ENSG00000075624.5_PAR_Y", "ENSG00000075624_PAR_Y", "ensg00000075624", "ENSG00000075624.", "ENSG00000075624x"],
)
def test_what_only_resembles_an_ensembl_id_is_unknown(name):
    assert columns([name], "alias") == [-1]


@pytest.mark.parametrize("name", ["<pad>", "<cls>", "", "actb", " ACTB", "ACTB ", float("nan"), None, 7])
def test_special_tokens_case_spaces_and_missing_names_never_match(name):
    assert columns([name], "alias") == [-1]


def test_alias_only_counts_when_asked_for():
    assert columns(["SEPT2", "CD20"]) == [-1, -1]
    assert columns(["SEPT2", "CD20"], "alias") == [3, 5]
    assert match(["SEPT2", "CD20", "ACTB"], VOCABULARY).alias_would_add == 2


@pytest.mark.parametrize("there", ["GAPDH", "ENSG00000111640.4"])
def test_alias_of_a_gene_that_is_there_under_its_own_name_is_dropped_and_listed(there):
    found = match(["G3PD", there, "CD20"], VOCABULARY, "alias")
    assert found.columns.tolist() == [-1, 1, 5]
    assert found.dropped == ("G3PD",)
    assert "G3PD" in found.report()
    assert match(["G3PD", there, "CD20"], VOCABULARY).alias_would_add == found.n_alias == 1


def test_columns_of_one_gene_stay_two_tokens():
    assert columns(["ACTB", "ACTB", "ENSG00000075624"]) == [0, 0, 0]
    assert columns(["SEPT2", "NEDD5"], "alias") == [3, 3]


@given(st.lists(st.sampled_from([*TOKENS, *VOCABULARY.ensembl, "ENSG00000075624.3", "SEPT2", "x"]), max_size=30))
def test_a_name_resolves_the_same_whatever_stands_beside_it(names):
    assert columns(names) == [columns([name])[0] for name in names]


@given(st.lists(st.sampled_from([*TOKENS, *VOCABULARY.ensembl, *VOCABULARY.aliases, "x"]), max_size=30))
def test_counts_add_up_in_both_modes(names):
    exact, alias = match(names, VOCABULARY), match(names, VOCABULARY, "alias")
    for found in (exact, alias):
        assert found.n_matched == np.count_nonzero(found.columns >= 0)
        assert found.n_columns == len(names)
        assert found.columns.dtype == np.int64
    assert alias.n_matched == exact.n_matched + exact.alias_would_add
    assert (exact.n_alias, exact.dropped, alias.alias_would_add) == (0, (), 0)


def test_report_says_how_many_from_where_and_what_is_not_known():
    found = match(["ACTB", "ENSG00000111640", "SEPT2", "peculiar"], VOCABULARY, source="gene_ids")
    report = found.report()
    for piece in ("2 of 4", "50.0%", "1 by name", "1 by Ensembl id", "gene_ids", "alias would find 1 more", "peculiar"):
        assert piece in report


def test_an_unknown_mode_is_refused():
    with pytest.raises(OptionError, match="'exact' or 'alias'"):
        match(["ACTB"], VOCABULARY, "fuzzy")


def test_the_best_matching_column_is_chosen_and_named():
    found = choose({"index": ["1", "2"], "gene_ids": ["x", "CD3E"], "feature_name": ["ACTB", "CD3E"]}, VOCABULARY)
    assert (found.source, found.columns.tolist()) == ("feature_name", [0, 4])


def test_equally_good_columns_are_decided_by_a_fixed_order():
    names = ["feature_name", "gene_symbols", "gene_name", "gene_ids", "index"]
    while names:
        candidates = dict.fromkeys(reversed(names), GOOD)
        assert choose(candidates, VOCABULARY).source == names.pop(0)


def test_other_columns_of_var_are_used_only_when_named():
    candidates = {"mine": GOOD, "index": GOOD[:4] + ["x"] * 2}
    assert choose(candidates, VOCABULARY).source == "index"
    assert choose(candidates, VOCABULARY, gene_col="mine").source == "mine"
    assert choose(candidates, VOCABULARY, gene_col="index").n_matched == 4


def test_a_gene_column_that_is_not_there_is_an_error_with_those_that_are():
    with pytest.raises(GenesError, match=r"'symbol'.*'mine', 'index'"):
        choose({"mine": GOOD, "index": GOOD}, VOCABULARY, gene_col="symbol")


def test_too_few_known_genes_shows_both_sides_and_the_way_out():
    names = ["G3PD", "CD20", *(f"strange{i}" for i in range(98))]
    with pytest.raises(GenesError) as caught:
        choose({"gene_name": names, "index": names}, VOCABULARY)
    message = str(caught.value)
    for piece in ("0 of 100", "at least 5", "'G3PD'", "'ACTB'", "gene_name", "--gene-col", "--min-match"):
        assert piece in message
    assert "--genes alias would find 2 more" in message
    assert "<pad>" not in message


def test_a_model_of_few_genes_takes_a_file_of_many():
    names = [*GOOD, *(f"unknown{i}" for i in range(10_000))]
    assert choose({"index": names}, VOCABULARY).n_matched == len(GOOD)


def test_min_match_moves_the_limit_and_zero_asks_for_one_gene():
    names = ["ACTB", "GAPDH", "CD3E", *(f"strange{i}" for i in range(27))]
    with pytest.raises(GenesError, match="at least 5"):  # 10 % of 30, but never fewer than a few genes
        choose({"index": names}, VOCABULARY, min_match=0.1)
    assert choose({"index": names}, VOCABULARY, min_match=0).n_matched == 3
    with pytest.raises(GenesError, match="at least 1 "):
        choose({"index": ["x"]}, VOCABULARY, min_match=0)
    with pytest.raises(GenesError, match="at least 6"):
        choose({"index": [*GOOD[:5], "x"]}, VOCABULARY, min_match=1)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_min_match_outside_its_range_is_refused(share):
    with pytest.raises(OptionError, match="0 to 1"):
        choose({"index": GOOD}, VOCABULARY, min_match=share)


@pytest.mark.parametrize("candidates", [{}, {"index": []}, {"other": GOOD}])
def test_no_names_at_all_is_an_error(candidates):
    with pytest.raises(GenesError):
        choose(candidates, VOCABULARY)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ENSMUSG00000029580", "ENSMUSG00000057666.18"], "mouse"),
        (["Actb", "Gapdh", "mt-Nd1", "Septin2"], "mouse"),
        (["ENSRNOG00000034254"], "rat"),
        (["ENSDARG00000037746"], "zebrafish"),
        (["ENSXYZG00000037746"], "another species"),
        (["ENST00000331789.9"], "transcripts"),
        (["actb", "gapdh"], "capitals"),
        (["ensg00000075624"], "small letters"),
        ([" ACTB", "GAPDH "], "spaces"),
        (["GRCh38_ACTB", "GRCh38_GAPDH"], "GRCh38_ACTB"),
        (["ACTB_ENSG00000075624", "GAPDH|ENSG00000111640.2"], "together with other text"),
        (["chr1:10109-10357", "chr1:180730-181630"], "peaks"),
        (["0", "1", "2"], "numbers"),
        ([0, 1, 2], "numbers"),
    ],
)
def test_names_that_do_not_fit_are_recognised(names, said):
    with pytest.raises(GenesError, match=said):
        choose({"index": [*names, "unheard-of"]}, VOCABULARY)


def test_json_brings_back_the_same_vocabulary_and_the_same_bytes():
    text = VOCABULARY.to_json()
    again = Vocabulary.from_json(text)
    assert again == VOCABULARY
    assert again.index == VOCABULARY.index
    assert again.to_json() == text
    turned = Vocabulary(TOKENS, dict(reversed(VOCABULARY.ensembl.items())), VOCABULARY.aliases, VOCABULARY.versions)
    assert turned.to_json() == text


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": "ACTB"},
        {"tokens": ["ACTB", 3]},
        {"tokens": ["ACTB", "ACTB"]},
        {"ensembl": {"ENSG00000075624": 10}},
        {"aliases": {"X": -1}},
        {"aliases": {"X": "0"}},
        {"aliases": None},
        {"format": "1"},
    ],
)
def test_a_malformed_vocabulary_is_a_bundle_error(change):
    fields = {**json.loads(VOCABULARY.to_json()), **change}
    with pytest.raises(BundleError, match=r"vocab\.json"):
        Vocabulary.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", b"\xff"])
def test_what_is_no_vocabulary_is_a_bundle_error(text):
    with pytest.raises(BundleError, match=r"vocab\.json"):
        Vocabulary.from_json(text)


def test_a_newer_format_asks_for_an_update():
    fields = {**json.loads(VOCABULARY.to_json()), "format": 2}
    with pytest.raises(BundleTooNewError, match="Update scgpt-infer"):
        Vocabulary.from_json(json.dumps(fields))


def test_a_token_named_twice_is_an_error_that_names_it():
    with pytest.raises(GenesError, match="'ACTB' twice"):
        Vocabulary(("ACTB", "GAPDH", "ACTB"))
