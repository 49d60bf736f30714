"""Messages tell a client of options and files that it knows, and of no folder of the server."""

import pytest

from scgpt_infer.server.jobs.wording import as_options, as_owned


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("which the gene names are (--gene-col).", "which the gene names are (gene_col)."),
        ("right (--gene-col, gene_col=...).", "right (gene_col)."),
        ("choose one of: --layer raw, --layer counts.", "choose one of: layer=raw, layer=counts."),
        ("Say it: --cells-in rows or --cells-in columns.", "Say it: cells_in=rows or cells_in=columns."),
        ("begin anew (--no-resume)", "begin anew (--no-resume)"),
        ("the gene AB--layer", "the gene AB--layer"),
    ],
)
def test_flags_are_named_as_options(told, words):
    assert as_options(told) == words


def test_a_folder_that_is_named_bare_has_words_in_its_place(submit):
    job = submit()
    assert as_owned(f"There is no file: '{job.upload.parent}'", job) == "There is no file: 'the job's folder'"
    assert as_owned(f"{job.upload} is short", job) == "my cells.h5ad is short"


def test_names_with_quotes_are_told_as_they_are(submit):
    job = submit(name='a "b".h5ad')
    assert as_owned({"input": str(job.upload), "bad": [str(job.upload), 3]}, job) == {
        "input": 'a "b".h5ad',
        "bad": ['a "b".h5ad', 3],
    }
