"""Every bad text ends with a message that says what was found, where, and what to do."""

import gzip
from pathlib import Path

import anndata as ad
import pytest

from scgpt_infer.readers import lines, open_cells
from scgpt_runtime.errors import CellsError
from text_files import put, table

GOOD = "cell,CD3D,CD4,LYZ\na,1,0,2\nb,0,3,1\nc,2,2,0\n"

# Content to what its message says, in order.
TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r"t\.csv is empty; expected a table of numbers"),
    "blank": (" \n\n", r"t\.csv is empty"),
    "header only": ("cell,CD3D,CD4\n", r"has a first line and no others"),
    "no delimiter": ("names\na\nb\n", r"no tabs, commas, semicolons or spaces .*'names'"),
    "short line": (GOOD + "d,1,2\n", r"Line 5 of .*t\.csv has 3 fields; expected 4: a name and 3 numbers"),
    "long line": (GOOD + "d,1,2,3,4,5\n", r"Line 5 of .* has 6 fields; expected 4"),
    "header too short": ("CD3D,CD4\na,1,0,2\n", r"Line 1 of .* has 2 fields and the next one 4"),
    "header too long": ("cell,CD3D,CD4,LYZ,NKG7\na,1,0,2\n", r"Line 1 of .* has 5 fields and the next one 4"),
    "text": (GOOD + "d,1,T cell,2\n", r"Line 5 of .* has 'T cell' in column 3 \('CD4'\); expected a number.*leave out"),
    "after blank lines": (GOOD + "\n\nd,1,x,2\n", r"Line 7 of .* has 'x' in column 3"),
    "metadata": ("cell,type,CD3D\na,B,1\nb,T,2\n", r"Line 2 of .* has 'B' in column 2 \('type'\)"),
    "long text": (GOOD + f"d,1,{'x' * 500},2\n", r"has 'x{40}\.\.\.' in column 3"),
    "decimal comma": ("cell;CD3D;CD4\na;1,5;0\n", r"Line 2 .* decimal comma '1,5' in column 2 \('CD3D'\).*points"),
    "quoted decimal comma": ('cell,CD3D,CD4\na,"1,5",0\n', r"decimal comma '1,5' in column 2"),
    "empty field": ("cell,CD3D,CD4,LYZ\na,1,,2\n", r"Line 2 of .* has nothing in column 3 \('CD4'\).*Write 0"),
    "open quote": ('cell,CD3D,CD4\n"a,1,2\nb,1,2\n', r"Line 2 of .*quote that does not close: '\"a,1,2'"),
    "same cells": ("cell,CD3D,CD4\na,1,2\nb,1,2\na,3,4\n", r"1 names that several cells bear: 'a'\..*make them unique"),
    "same cells above": ("gene,a,b,a\nCD3D,1,2,3\n", r"1 names that several cells bear: 'a'"),
    "neither": ("cell,x,y\na,1,2\n", r"neither the names in its first line \('x', 'y'\) nor .*--cells-in rows"),
    "both": ("cell,CD3D,CD4\nLYZ,1,2\n", r"both the names in its first line \('CD3D', 'CD4'\) and"),
    "no names of cells": ("CD3D,CD4,LYZ\n1,0,2\n0,3,1\n", r"first column of .* is called 'CD3D', as a gene"),
    "scaled": ("cell,CD3D,CD4\na,-1,2\nb,1,-2\n", r"X is scaled: 2 of 2 sampled cells .*from before scaling"),
    "web page": ("<!DOCTYPE html>\n<html><body>404</body>", r"t\.csv is a web page.*: download it again"),
    "web page in small letters": ("\n <html>\n", r"is a web page"),
    "UTF-16": (GOOD.encode("utf-16"), r"is UTF-16 text: convert it to UTF-8, .*iconv -f UTF-16"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), r"is UTF-16 text"),
    "Latin-1 above": ("cell,CD3D,Bé\na,1,2\n".encode("latin-1"), r"Line 1 .* not UTF-8: .*0xE9.*WINDOWS-1252"),
    "Latin-1 in a name": ("cell,CD3D,CD4\na,1,2\nBé,1,2\n".encode("latin-1"), r"Line 3 of .* is not UTF-8.*Latin-1"),
    "Latin-1 in a number": ("cell,CD3D,CD4\na,1,2\nb,é,2\n".encode("latin-1"), r"Line 3 of .* is not UTF-8"),
    "old Mac": ("cell,CD3D\ra,1\r", r"lines end in carriage returns alone"),
    "Excel": (b"PK\x03\x04" + bytes(50), r"t\.csv is a zip file, which an Excel workbook is too: unpack or convert it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), r"is an HDF5 file: .*the suffix of what it is"),
    "binary": (bytes(range(256)), r"is no text \(it holds zero bytes\)"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), TABLES.values(), ids=TABLES)
def test_a_bad_table_says_what_is_wrong_and_where(content: str | bytes, message: str, tmp_path: Path):
    path = put(tmp_path / "t.csv", content)
    with pytest.raises(CellsError, match=f"(?s){message}"):
        open_cells(path)


def test_the_line_is_right_in_later_blocks(cells: ad.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 200)
    text = table(cells).splitlines()
    text[100] = text[100].replace(",", ",x", 1)
    text[50] += "\n"
    with pytest.raises(CellsError, match=r"Line 102 of .* in column 2 \('ENSG00000000000'\)"):
        open_cells(put(tmp_path / "t.csv", "\n".join(text)))


@pytest.mark.parametrize("keep", [15, 300, -4])
def test_a_cut_gzip_file_is_said_to_be_cut(keep: int, cells: ad.AnnData, tmp_path: Path):
    whole = gzip.compress(table(cells).encode())
    (tmp_path / "t.csv.gz").write_bytes(whole[:keep])
    with pytest.raises(CellsError, match=r"t\.csv\.gz is cut short or damaged after line \d+: .*download it again"):
        open_cells(tmp_path / "t.csv.gz")


def test_a_damaged_gzip_file_is_said_to_be_damaged(cells: ad.AnnData, tmp_path: Path):
    whole = bytearray(gzip.compress(table(cells).encode()))
    whole[len(whole) // 2] ^= 0xFF
    (tmp_path / "t.csv.gz").write_bytes(whole)
    with pytest.raises(CellsError, match=r"t\.csv\.gz is cut short or damaged"):
        open_cells(tmp_path / "t.csv.gz")


def test_a_compressed_web_page_is_one_too(tmp_path: Path):
    with pytest.raises(CellsError, match="is a web page"):
        open_cells(put(tmp_path / "t.csv.gz", "<html></html>"))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 10)
    monkeypatch.setattr(lines, "LINE_BYTES", 100)
    with pytest.raises(CellsError, match=r"Line 1 of .* does not end within 100 bytes"):
        open_cells(put(tmp_path / "t.csv", "x" * 1000))


def test_a_folder_is_no_table(tmp_path: Path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(CellsError, match=r"t\.csv cannot be opened: Is a directory"):
        open_cells(tmp_path / "t.csv")
