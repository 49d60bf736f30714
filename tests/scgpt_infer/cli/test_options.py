"""What several commands say in the same words."""

from types import SimpleNamespace

from scgpt_infer.cli.embed import bad_files
from scgpt_infer.cli.options import nowhere
from scgpt_infer.summary import BadFile
from scgpt_infer.writers import WRITERS


def test_who_names_no_output_is_told_all_formats():
    assert all(suffix in nowhere().message for suffix in WRITERS)
    assert ".npy" not in nowhere(".npy").message


def test_one_file_that_could_not_be_read_is_one():
    one = BadFile("a.h5ad", "It is cut short.")
    assert bad_files(SimpleNamespace(bad_files=(one,)))[0].startswith("1 file could not be read")
    assert bad_files(SimpleNamespace(bad_files=(one, one)))[0].startswith("2 files could not be read")
