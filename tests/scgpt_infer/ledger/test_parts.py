import numpy as np
import pytest

from scgpt_infer.ledger.folder import all_marks
from scgpt_infer.ledger.marks import append
from scgpt_infer.ledger.parts import Kept, decode, encode, part_path, read_part, write_part
from scgpt_infer.writers.sink import Part
from scgpt_runtime.errors import OutputError


@pytest.fixture
def kept():
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    vectors[2] = np.nan
    part = Part(
        2048,
        vectors,
        ("", "", "a value is NaN", ""),
        {"label": np.array([1, 0, -1, 2], np.int32), "confidence": np.array([0.5, 1, np.nan, 0], np.float32)},
        {"nonzero": vectors + 1},
        {"ADT_predicted": vectors[:, :2].copy()},
    )
    return Kept(part, ("a", "b/é", "c\nd", '"'))


def same(ours: Kept, theirs: Kept) -> None:
    assert (ours.names, ours.part.first_row, ours.part.reasons) == (
        theirs.names,
        theirs.part.first_row,
        theirs.part.reasons,
    )
    np.testing.assert_array_equal(ours.part.vectors, theirs.part.vectors)
    for group in ("columns", "matrices", "tables"):
        found, expected = getattr(ours.part, group), getattr(theirs.part, group)
        assert list(found) == list(expected)
        for name in expected:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_part_comes_back_as_it_was(kept):
    same(decode(encode(kept)), kept)


def test_the_same_part_makes_the_same_bytes_and_another_bit_others(kept):
    assert encode(kept) == encode(kept)
    kept.part.vectors[0, 0] = np.nextafter(kept.part.vectors[0, 0], np.float32(9))
    changed = encode(kept)
    kept.part.vectors[0, 0] = np.nextafter(kept.part.vectors[0, 0], np.float32(9))
    assert encode(kept) != changed


def test_float16_takes_half_the_room_of_the_vectors_and_comes_back_as_float32(kept):
    half = decode(encode(kept, "float16")).part.vectors
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, kept.part.vectors.astype(np.float16).astype(np.float32))
    many = Kept(Part(0, np.ones((1024, 64), np.float32), ("",) * 1024), ("c",) * 1024)
    assert len(encode(many)) - len(encode(many, "float16")) == 1024 * 64 * 2


def test_a_written_part_is_found_by_its_mark(kept, tmp_path):
    mark = write_part(tmp_path, kept, "float32", 77, 512)
    assert (mark.rows, mark.n_bad, mark.longest, mark.batch_tokens) == (range(2048, 2052), 1, 77, 512)
    assert [path.name for path in tmp_path.iterdir()] == [part_path(tmp_path, 2048).name]
    same(read_part(tmp_path, mark), kept)


def test_a_part_with_another_bit_is_refused_by_name(kept, tmp_path):
    mark = write_part(tmp_path, kept, "float32", 77, 512)
    path = part_path(tmp_path, 2048)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OutputError, match=f"{path.name} is not the part that was written"):
        read_part(tmp_path, mark)
    path.unlink()
    with pytest.raises(OutputError, match="cannot be read"):
        read_part(tmp_path, mark)


def test_of_two_marks_of_a_range_that_of_the_part_there_is_counts(kept, tmp_path):
    old = write_part(tmp_path, kept, "float32", 77, 512)
    kept.part.vectors[0] += 1
    new = write_part(tmp_path, kept, "float32", 77, 512)
    for earlier, later in ((old, new), (new, old)):
        for path in tmp_path.glob("ledger*"):
            path.unlink()
        append(tmp_path / "ledger.0-of-2.jsonl", earlier)
        append(tmp_path / "ledger.1-of-2.jsonl", later)
        assert all_marks(tmp_path) == {2048: new}
