import pytest

from scgpt_infer.sizes import bytes_of, size
from scgpt_runtime.errors import OptionError


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


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("8GiB", 8 * 2**30),
        ("8 GB", 8 * 10**9),
        ("8g", 8 * 10**9),
        ("1.5MiB", 3 * 2**19),
        ("4000000", 4_000_000),
        ("4096b", 4096),
        ("12kB", 12000),
    ],
)
def test_sizes_of_memory(text, n_bytes):
    assert bytes_of(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "0GB", "-1GB", "8 XB", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(OptionError, match="such as 8GiB"):
        bytes_of(text)


@pytest.mark.parametrize("text", ["50", "0.5", "999999", " 8 "])
def test_a_small_number_without_a_unit_is_refused(text):
    with pytest.raises(OptionError, match=rf"without a unit.*such as {text.strip()}MB"):
        bytes_of(text)
