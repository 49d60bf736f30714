import pytest

from scgpt_infer import EmbedOptions
from scgpt_infer.options import CHOICES, MIN_MATCH
from scgpt_runtime import vocab
from scgpt_runtime.errors import OptionError


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("genes", "fuzzy", "one of exact, alias"),
        ("genes", None, "one of exact, alias"),
        ("precision", "fp64", "fp32"),
        ("provider", "rocm", "cuda"),
        ("ties", "random", "one-sided"),
        ("sample", "first", "top"),
        ("threads", 0, "at least 1"),
        ("threads", 2.0, "whole number"),
        ("batch_tokens", -5, "at least 1"),
        ("max_length", 1, "at least 2"),
        ("seed", -1, "at least 0"),
        ("seed", 2**64, r"below 2\^64"),
        ("seed", True, "whole number"),
        ("limit", 0, "at least 1"),
        ("min_match", 5, "0 to 1"),
        ("min_match", float("nan"), "0 to 1"),
        ("min_match", "half", "0 to 1"),
        ("key", "", "name for obsm"),
        *(("key", key, "without '/'") for key in ("a/b", ".", "..", " ", "X pca", "a\x00", "a\n", "a\x7f", 3)),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_can(option, value, said):
    with pytest.raises(OptionError, match=rf"{option} is .*expected.*{said}"):
        EmbedOptions(**{option: value})


@pytest.mark.parametrize("pair", [{"limit": 5, "in_place": True}, {"obs_only": True, "in_place": True}])
def test_options_that_contradict_each_other_are_refused(pair):
    with pytest.raises(OptionError, match="do not go together"):
        EmbedOptions(**pair)


def test_every_word_that_is_offered_is_allowed():
    for option, words in CHOICES.items():
        for word in words:
            assert getattr(EmbedOptions(**{option: word}), option) == word


def test_the_default_share_of_known_genes_is_the_vocabularys():
    assert EmbedOptions().min_match == MIN_MATCH == vocab.MIN_MATCH
