"""The shipped tables resolve a model's tokens: the right ids, and no alias that could mean two genes."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest

from scgpt_export.genes import build_vocabulary, census_tokens
from scgpt_runtime.errors import GenesError
from scgpt_runtime.vocab import Vocabulary, match

DATA = os.environ.get("SCGPT_INFER_DATA", "")
SCRIPT = Path(__file__).parents[2] / "scripts" / "build_gene_table.py"


@pytest.fixture(scope="module")
def census() -> Vocabulary:
    return build_vocabulary(census_tokens())


def only(vocabulary, names, mode="exact"):
    return [vocabulary.tokens[i] if i >= 0 else None for i in match(names, vocabulary, mode).columns]


def test_census_tokens_are_in_id_order_with_the_special_ones_last():
    tokens = census_tokens()
    assert len(tokens) == 60_697
    assert tokens[:2] == ["A1BG", "A1BG-AS1"]
    assert tokens[60_693:] == ["RP5-973N23.5", "<pad>", "<cls>", "<eoc>"]


def test_ids_lead_to_the_symbol_in_the_vocabulary(census):
    ids = ["ENSG00000075624", "ENSG00000111640.15", "ENSG00000198763", "ENSG00000999999", "ENSG00000182378.15_PAR_Y"]
    assert only(census, ids) == ["ACTB", "GAPDH", "MT-ND2", None, None]


def test_an_id_resolves_to_the_first_official_name_that_is_a_token():
    identifier, old, new = "ENSG00000290825", "DDX11L2", "DDX11L16"  # GENCODE 44, GENCODE 48
    assert only(build_vocabulary([new, old]), [identifier]) == [old]
    assert only(build_vocabulary([new]), [identifier]) == [new]


def test_a_vocabulary_of_ensembl_ids_works_with_and_without_version():
    bare = build_vocabulary(["ENSG00000075624", "<pad>"])
    assert only(bare, ["ENSG00000075624", "ENSG00000075624.17"]) == ["ENSG00000075624"] * 2
    versioned = build_vocabulary(["ENSG00000075624.9", "ENSG00000075624.17", "<pad>"])
    assert only(versioned, ["ENSG00000075624", "ENSG00000075624.9", "ENSG00000075624.20"]) == [
        "ENSG00000075624.17",  # of two versions the newer stands for the id
        "ENSG00000075624.9",
        "ENSG00000075624.17",
    ]


def test_every_versioned_id_among_the_census_names_answers_to_its_bare_id(census):
    versioned = [name for name in census.tokens if re.fullmatch(r"ENSG\d{11}\.\d+", name)]
    assert len(versioned) == 698
    bare = [name[:15] for name in versioned]
    expected = [name if name[:15] not in census.index else name[:15] for name in versioned]
    assert only(census, bare) == expected


@pytest.mark.parametrize(
    ("token", "names"),
    [
        ("SEPTIN2", ["SEPT2", "NEDD5"]),  # the vocabulary has today's symbol, the file a previous one or an alias
        ("SEPT2", ["SEPTIN2", "NEDD5"]),  # and the other way round
        ("MS4A1", ["CD20"]),
        ("CD20", ["MS4A1"]),
        ("H1-0", ["H1F0"]),
    ],
)
def test_symbols_of_one_gene_lead_to_the_one_that_is_a_token(token, names):
    vocabulary = build_vocabulary([token, "ACTB", "<pad>"])
    assert only(vocabulary, names, "alias") == [token] * len(names)
    assert only(vocabulary, names) == [None] * len(names)


def test_a_symbol_that_two_genes_of_the_vocabulary_answer_to_stays_unknown():
    # STRA13 was once the symbol of either gene.
    assert only(build_vocabulary(["CENPX", "BHLHE40"]), ["STRA13"], "alias") == [None]
    assert only(build_vocabulary(["CENPX", "ACTB"]), ["STRA13"], "alias") == ["CENPX"]
    # Two old symbols of one gene are two tokens: neither is the one.
    assert only(build_vocabulary(["SEPT2", "DIFF6"]), ["SEPTIN2"], "alias") == [None]


def test_a_gene_without_a_token_keeps_its_official_name_to_itself():
    # FRAXE is a locus of its own, and an alias of AFF2.
    assert only(build_vocabulary(["AFF2", "ACTB"]), ["FRAXE"], "alias") == [None]


def test_no_alias_is_a_token_or_special_and_each_leads_to_a_gene(census):
    assert not set(census.aliases) & set(census.index)
    genes = len(census) - 3
    assert set(census.aliases.values()) | set(census.ensembl.values()) <= set(range(genes))
    assert len(census.ensembl) > 40_000
    assert len(census.aliases) > 50_000


def test_a_vocabulary_that_names_a_token_twice_is_refused():
    with pytest.raises(GenesError, match="'ACTB' twice"):
        build_vocabulary(["ACTB", "<pad>", "ACTB"])


def test_versions_of_the_tables_are_recorded(census):
    assert census.versions == {"GENCODE": "44, 48", "HGNC": "2020-05-27"}
    sources = json.loads((files("scgpt_export") / "data" / "sources.json").read_text())
    assert all(source["licence"] and source["url"] and source["sha256"] for source in sources.values())


def test_the_full_vocabulary_is_small_and_quick(census):
    text = census.to_json()
    assert len(text) < 4_000_000
    start = time.process_time()
    vocabulary = Vocabulary.from_json(text)
    match([*vocabulary.tokens[:40_000], *list(vocabulary.ensembl)[:20_000]], vocabulary)
    assert time.process_time() - start < 1.0  # 0.1 s on a laptop; the rest is for a busy machine
    assert Vocabulary.from_json(text) == census


def test_the_table_script_gives_the_same_bytes_each_time(tmp_path):
    write_tables(tmp_path)
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        coding = output / "coding.txt.gz"
        command = [sys.executable, SCRIPT, tmp_path, "--output", output, "--coding", coding]
        subprocess.run(command, check=True, capture_output=True)
    one, two = ({path.name: path.read_bytes() for path in output.iterdir()} for output in outputs)
    assert one == two
    genes = gzip.decompress(one["genes.tsv.gz"]).decode().splitlines()
    assert genes == ["ENSG00000000001\tOLD\tNEW\tNEW", "ENSG00000000003\t\t\tA|B"]
    assert gzip.decompress(one["symbols.tsv.gz"]).decode().splitlines() == ["A\t\t", "B\t\tb", "NEW\tOLD|OLDER\tnew1"]
    assert gzip.decompress(one["coding.txt.gz"]).decode().splitlines() == ["B", "NEW"]
    assert gzip.decompress(one["census.txt.gz"]).decode().splitlines() == ["OLD", "B"]
    assert json.loads(one["sources.json"])["hgnc_complete_set.txt.gz"]["version"] == "2020-03-01"


def write_tables(folder):
    (folder / "GENCODEv44_Gene_id2name.csv").write_text(
        "ENSG00000000001,OLD\nENSG00000000002,ENSG00000000002\n", encoding="utf-8"
    )
    gencode = "ENSG00000000001,NEW,1,99,lncRNA\nENSG00000000002,ENSG00000000002,1,9,lncRNA\n"
    (folder / "genes_homo_sapiens.csv.gz").write_bytes(gzip.compress(gencode.encode()))
    rows = [
        ["symbol", "status", "alias_symbol", "prev_symbol", "date_modified", "ensembl_gene_id", "locus_group"],
        ["NEW", "Approved", "new1", '"OLD|OLDER"', "2020-01-01", "ENSG00000000001", "protein-coding gene"],
        ["B", "Approved", "b", "", "2020-03-01", "ENSG00000000003", "protein-coding gene"],
        ["A", "Approved", "", "", "", "ENSG00000000003", "pseudogene"],
        ["GONE~withdrawn", "Entry Withdrawn", "", "", "2021-01-01", "", "withdrawn"],
    ]
    text = "".join("\t".join(row) + "\n" for row in rows)
    (folder / "hgnc_complete_set.txt.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "scgpt_default_census_vocab.json").write_text('{"B": 1, "OLD": 0}', encoding="utf-8")


def var_names(name):
    import anndata  # only the tests of real files need it

    with open(Path(DATA) / name, "rb"):
        return anndata.read_h5ad(Path(DATA) / name, backed="r").var


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="SCGPT_INFER_DATA does not name the folder of real data")
def test_real_cells_match_as_counted_by_hand(census):
    names = list(var_names("pbmc3k_labelled.h5ad").index)
    exact, alias = match(names, census), match(names, census, "alias")
    assert (exact.n_exact, exact.n_columns, exact.alias_would_add) == (12_255, 13_656, 785)
    assert (alias.n_alias, len(alias.dropped)) == (785, 7)


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="SCGPT_INFER_DATA does not name the folder of real data")
def test_symbols_and_ids_of_one_file_lead_to_the_same_tokens(census):
    var = var_names("kang18_ctrl_12k.h5ad")
    by_name, by_id = match(list(var.index), census), match(list(var["ensembl_id"]), census)
    both = (by_name.columns >= 0) & (by_id.columns >= 0)
    assert both.sum() > 1_250
    assert (by_name.columns == by_id.columns)[both].all()
