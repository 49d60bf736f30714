from dataclasses import replace

from scgpt_infer.ledger.marks import Mark, append, digest, read_marks

ONE = Mark(first_row=0, n_cells=1024, n_bad=3, sha256="a" * 64, size=9, longest=5, batch_tokens=512)
TWO = replace(ONE, first_row=1024, sha256="b" * 64)


def test_marks_come_back_in_the_order_in_which_they_were_made(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert read_marks(path) == []
    append(path, TWO)
    append(path, ONE)
    assert read_marks(path) == [TWO, ONE]


def test_a_line_that_was_cut_short_is_no_mark_and_the_next_one_begins_anew(tmp_path):
    path = tmp_path / "ledger.jsonl"
    append(path, ONE)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut].replace(b'"first_row":0', b'"first_row":5'))
        append(path, TWO)
        assert read_marks(path)[0] == ONE
        assert read_marks(path)[-1] == TWO
        assert len(read_marks(path)) == (3 if cut == len(whole) - 1 else 2)  # but for its end of line it was whole


def test_the_digest_tells_answers_apart_and_not_the_order_of_the_work():
    assert digest([ONE, TWO]) == digest([TWO, ONE])
    assert digest([ONE, TWO]) == digest([replace(ONE, batch_tokens=256), TWO])
    assert digest([ONE, TWO]) != digest([ONE, replace(TWO, sha256="c" * 64)])
