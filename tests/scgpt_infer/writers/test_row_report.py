import csv

from scgpt_infer.writers.row_report import RowReport, report_path


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
