import pytest

from scgpt_infer.sizes import size


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (104_200, "104.2 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (2_100_000_000, "2.1 GB"),
        (5 * 10**15, "5,000.0 TB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_fits(n_bytes, words):
    assert size(n_bytes) == words
