"""The stand-in for torchtext's vocabulary does what scGPT's `GeneVocab` asks of it."""

import json
import sys
from collections import OrderedDict

import anndata
import pytest

from benchmarks.peers.standins import standing_in
from benchmarks.peers.torchtext_vocab import Vocab, vocab


def built(tokens: dict[str, int]) -> Vocab:
    made = vocab(OrderedDict())
    for token, index in sorted(tokens.items(), key=lambda item: item[1]):
        made.insert_token(token, index)
    return made


def test_tokens_get_the_ids_that_they_are_inserted_at():
    made = built({"<pad>": 2, "A1BG": 0, "TP53": 1})
    assert made.get_stoi() == {"A1BG": 0, "TP53": 1, "<pad>": 2}
    assert made.get_itos() == ["A1BG", "TP53", "<pad>"]
    assert (len(made), "TP53" in made, "tp53" in made) == (3, True, False)


def test_inserting_before_others_moves_them_up():
    made = built({"b": 0, "c": 1})
    made.insert_token("a", 0)
    assert made.lookup_indices(["a", "b", "c"]) == [0, 1, 2]
    assert made.lookup_token(2) == "c"


def test_a_gap_and_a_token_given_twice_are_refused():
    made = built({"a": 0})
    with pytest.raises(RuntimeError, match="out of bounds"):
        made.insert_token("b", 5)
    with pytest.raises(RuntimeError, match="already exists"):
        made.append_token("a")


def test_unknown_tokens_need_a_default():
    made = built({"a": 0, "<pad>": 1})
    with pytest.raises(RuntimeError, match="default index"):
        made["zz"]
    made.set_default_index(made["<pad>"])
    assert made(["zz", "a"]) == [1, 0]
    assert made.get_default_index() == 1


def test_rare_tokens_are_left_out_and_the_order_is_kept():
    assert vocab(OrderedDict(b=2, a=1, c=3), min_freq=2).get_itos() == ["b", "c"]


def test_a_vocabulary_made_from_another_has_its_tokens_and_shares_what_comes_later():
    first = built({"a": 0})
    second = Vocab(first.vocab)
    second.append_token("b")
    assert second["b"] == 1
    assert first["b"] == 1


def test_stand_ins_are_gone_afterwards_and_what_was_there_is_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "seaborn", json)
    with standing_in() as names:
        import seaborn
        import torchtext.vocab
        from scanpy import AnnData
        from sklearn.metrics import anything

        assert torchtext.vocab.Vocab is Vocab
        assert AnnData is anndata.AnnData
        assert isinstance(anything, type)
        assert seaborn is not json
    assert {"torchtext", "scanpy", "seaborn", "sklearn.metrics"} <= set(names)
    assert sys.modules["seaborn"] is json
    assert "torchtext" not in sys.modules
