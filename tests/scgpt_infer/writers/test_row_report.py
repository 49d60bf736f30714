import csv

import pytest

from scgpt_infer.output import check_path
from scgpt_infer.writers.row_report import RowReport, report_path
from scgpt_runtime.errors import OutputError


def report(output, *parts):
    with RowReport.beside(output) as rows:
        for part in parts:
            rows.add(*part)
        rows.commit()


def test_bad_cells_are_listed_with_row_name_and_reason(tmp_path):
    output = tmp_path / "x.npy"
    report(output, (0, ("", "is NaN"), ("a", "b")), (2, ("", ""), ("c", "d")), (4, ("zero, all",), ('q"\n',)))
    with report_path(output).open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["row", "cell", "reason"], ["1", "b", "is NaN"], ["4", 'q"\n', "zero, all"]]


def test_without_bad_cells_there_is_no_report_and_an_earlier_one_goes(tmp_path):
    output = tmp_path / "x.npy"
    report(output, (0, ("bad",), ("a",)))
    assert report_path(output).exists()
    report(output, (0, ("",), ("a",)))
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_is_not_committed_leaves_the_earlier_one(tmp_path):
    output = tmp_path / "x.npy"
    report(output, (0, ("bad",), ("a",)))
    with RowReport.beside(output) as rows:
        rows.add(0, ("worse",), ("a",))
    assert "worse" not in report_path(output).read_text()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_no_report_of_ours_stays_and_is_said(tmp_path):
    output = tmp_path / "x.npy"
    report_path(output).write_text("my own notes\n")
    with pytest.raises(OutputError, match=r"x\.npy\.bad\.csv begins with other words.*another name"):
        check_path(output)
    with RowReport.beside(output) as rows, pytest.raises(OutputError, match="begins with other words"):
        rows.settle()
    assert report_path(output).read_text() == "my own notes\n"
    report_path(output).unlink()
    report(output, (0, ("bad",), ("a",)))
    check_path(output)
