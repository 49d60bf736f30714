"""The words of ``scgpt-infer multiomic``."""

import pytest
from click.testing import CliRunner

from scgpt_infer.cli import multiomic as module
from scgpt_infer.multiomics import Multiomic


@pytest.fixture
def asked(monkeypatch):
    """What the command would run."""
    calls = []

    def stand_in(cells, output, model, how, options, work, quiet):
        calls.append((how, options))
        raise SystemExit(0)

    monkeypatch.setattr(module, "_run", stand_in)
    return calls


def call(*words: str):
    return CliRunner().invoke(module.command, [*words, "--model", "m"])


def test_words_become_options(asked, tmp_path):
    (tmp_path / "names.txt").write_text("CD3\nCD4\n")
    words = ["c.h5mu", "-o", "o.json", "--map", "RNA=rna,Protein=my adt", "--from", "tokens", "--alone"]
    call(
        *words,
        "--predict-file",
        str(tmp_path / "names.txt"),
        "--batch",
        "day",
        "--batch-fallback",
        "d1",
        "--limit",
        "5",
    )
    ((how, options),) = asked
    assert how.modalities == {"RNA": "rna", "Protein": "my adt"}
    assert (how.predict, how.predict_from, how.alone) == (("CD3", "CD4"), "tokens", True)
    assert (how.batches.batch, how.batches.batch_fallback, options.limit) == ("day", "d1", 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--map", "RNA"], "'RNA' is not MODEL=CELLS"),
        (["--map", "RNA=rna", "--map", "RNA=gex"], "RNA is rna and gex"),
        ([], "Nowhere to write"),
        (["-o", "o.csv", "--in-place"], "do not go together"),
        (["-o", "o.csv", "--predict", "CD3", "--predict-file", "f"], "give one of them"),
    ],
)
def test_words_that_do_not_fit_are_refused(asked, words, said):
    found = call("c.h5mu", *words)
    assert found.exit_code == 2
    assert said in found.output
    assert not asked


def test_public_name():
    import scgpt_infer

    assert scgpt_infer.multiomic.__module__ == "scgpt_infer.multiomics.jobs"
    assert "modalities" in Multiomic.__slots__


def test_a_map_given_in_pieces_is_one_map(asked):
    call("c.h5mu", "-o", "o.json", "--map", "RNA=rna", "--map", "Protein=adt")
    assert asked[0][0].modalities == {"RNA": "rna", "Protein": "adt"}
