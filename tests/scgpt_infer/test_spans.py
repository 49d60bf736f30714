import pytest

from scgpt_infer.spans import Shard, grid
from scgpt_runtime.errors import OptionError


def test_the_grid_covers_all_rows_once():
    assert grid(10, 4) == [range(0, 4), range(4, 8), range(8, 10)]
    assert grid(0) == []


@pytest.mark.parametrize("n_ranges", [0, 1, 2, 3, 7, 100])
def test_shards_take_every_range_once_and_are_of_like_size(n_ranges):
    shares = [Shard(index, 3).of(n_ranges) for index in range(3)]
    assert [number for share in shares for number in share] == list(range(n_ranges))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_shard_is_read_as_it_is_written():
    assert Shard.parse("2/3") == Shard(2, 3)
    assert str(Shard(2, 3)) == "2/3"


@pytest.mark.parametrize("words", ["3/3", "1", "-1/3", "a/b", "1/0", ""])
def test_what_is_no_shard_is_refused(words):
    with pytest.raises(OptionError, match="shard is"):
        Shard.parse(words)
