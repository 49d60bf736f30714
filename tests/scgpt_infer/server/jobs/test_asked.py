"""What a query may ask of a file, and what is refused before the file is read."""

import pytest

from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.refusals import BadRequest, Unprocessable


def test_what_is_not_asked_is_as_the_command_line_has_it():
    asked = JobAsked.of({"name": "pbmc.h5ad"}, "demo")
    assert asked == JobAsked(model="demo", name="pbmc.h5ad", task="annotate", output="h5ad", report=True, top=3)
    assert asked.options(EmbedOptions(provider="cpu")) == EmbedOptions(provider="cpu")


def test_all_that_can_be_asked():
    query = {
        **{"name": "a b.csv.gz", "task": "annotate", "output": "json", "model": "human", "top": "5"},
        **{"unknown_below": "0.25", "with_vectors": "true", "layer": "raw", "gene_col": "symbol"},
        **{"modality": "Gene Expression", "cells_in": "columns"},
    }
    asked = JobAsked.of(query, "demo")
    assert asked.model == "human"
    assert (asked.suffix, asked.result, asked.page) == (".csv.gz", "a_b.annotated.json", "a_b.report.html")
    how = asked.how("/some/reference")
    assert (how.top, how.unknown_below, how.with_vectors, str(how.reference)) == (5, 0.25, True, "/some/reference")
    read = {"layer": "raw", "gene_col": "symbol", "modality": "Gene Expression", "cells_in": "columns"}
    assert asked.options(EmbedOptions()) == EmbedOptions(**read)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "no name"),
        ({"name": "x.h5ad", "outputs": "npy"}, "no parameter 'outputs'"),
        ({"name": "x.h5ad", "task": "impute"}, "annotate, embed"),
        ({"name": "x.h5ad", "task": "annotate", "output": "npy"}, "h5ad, json, csv, parquet"),
        ({"name": "x.h5ad", "top": "0"}, "at least 1"),
        ({"name": "x.h5ad", "top": "1e3"}, "whole number"),
        ({"name": "x.h5ad", "unknown_below": "nan"}, "from 0 to 1"),
        ({"name": "x.h5ad", "unknown_below": "high"}, "from 0 to 1"),
        ({"name": "x.h5ad", "top": "1_0"}, "whole number"),
        ({"name": "x.h5ad", "top": " 3"}, "whole number"),
        ({"name": "x.h5ad", "top": "\u0663"}, "whole number"),
        ({"name": "x.h5ad", "unknown_below": "0.2_5"}, "from 0 to 1"),
        ({"name": "x.h5ad", "unknown_below": " 0.5"}, "from 0 to 1"),
        ({"name": "x.h5ad", "unknown_below": "0.\u0663"}, "from 0 to 1"),
        ({"name": "x.h5ad", "layer": ""}, "layer is empty"),
        ({"name": "x.csv", "cells_in": "rows or so"}, "rows, columns"),
        ({"name": "x.h5ad", "report": "yes"}, "true, false"),
        ({"name": "x.h5ad", "layer": "a\0b"}, "cannot be shown"),
        ({"name": "x.h5ad", "report": "true", "output": "csv"}, "output=h5ad"),
        ({"name": "x.h5ad", "obs_only": "true", "output": "csv"}, "obs_only"),
    ],
)
def test_what_cannot_be_asked(query, words):
    with pytest.raises(BadRequest, match=words):
        JobAsked.of(query, "demo")


@pytest.mark.parametrize("name", ["../../etc/passwd.h5ad", "x.pkl", ".h5ad", "x" * 300 + ".h5ad"])
def test_names_that_no_file_is_taken_under(name):
    with pytest.raises(Unprocessable):
        JobAsked.of({"name": name}, "demo")


@pytest.mark.parametrize(
    "name", ["Zellen-\u00e4\u00f6\u00fc.h5ad", "\u00e4.h5ad", "-rf.csv", "a;b|c.h5", "x" * 190 + ".h5ad"]
)
def test_results_have_names_that_every_disk_and_header_takes(name):
    made = JobAsked.of({"name": name}, "demo").result
    assert made.isascii()
    assert made.replace(".", "").replace("_", "").replace("-", "").isalnum()
    assert made[0].isalnum()
    assert len(made) < 130
