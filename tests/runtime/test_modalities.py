import json
from dataclasses import replace

import numpy as np
import pytest

import toy_bundle
from scgpt_runtime.bundle import Bundle, seal
from scgpt_runtime.errors import BundleError, BundleTooNewError, OptionError
from scgpt_runtime.modalities import Modalities

NAMES = ("Protein", "RNA", "<pad>", "<cls>", "<eoc>")
"""By number, as scGPT's tutorial on multi-omic models sorts them."""


def example(n_tokens: int = 6) -> Modalities:
    of_tokens = np.array([1, 1, 0, 2, 3, 4, *[1] * (n_tokens - 6)], np.uint8)
    return Modalities(NAMES, of_tokens, {"Protein": "p_"})


def test_reads_back_what_it_wrote():
    text = example().to_json()
    found = Modalities.from_json(text, 6)
    assert found.to_json() == text
    assert found.of_tokens.dtype == np.uint8
    assert (found.names, found.prefixes) == (NAMES, {"Protein": "p_"})


def test_tokens_of_a_modality_and_special_modalities_are_not_measured():
    assert example().measured == ("Protein", "RNA")
    assert example().tokens_of("RNA").tolist() == [0, 1]
    with pytest.raises(OptionError, match="no modality 'ATAC'; it has Protein, RNA"):
        example().tokens_of("ATAC")


def test_the_digest_tells_another_order_and_another_assignment():
    other = replace(example(), of_tokens=np.array([1, 0, 0, 2, 3, 4], np.uint8))
    turned = replace(example(), names=("RNA", "Protein", *NAMES[2:]))
    assert len({found.digest for found in (example(), other, turned)}) == 3
    assert example().digest == replace(example(), prefixes={}).digest


@pytest.mark.parametrize(
    "change", [{"of_tokens": [0] * 5}, {"of_tokens": [0, 0, 0, 0, 0, 5]}, {"names": 3}, {"of_tokens": ["a"] * 6}]
)
def test_a_file_of_another_vocabulary_or_shape_is_refused(change: dict[str, object]):
    with pytest.raises(BundleError, match=r"modalities\.json of the bundle cannot be read"):
        Modalities.from_json(json.dumps(json.loads(example().to_json()) | change), 6)


def test_a_newer_file_asks_for_an_update():
    with pytest.raises(BundleTooNewError, match="Update scgpt-infer"):
        Modalities.from_json(json.dumps(json.loads(example().to_json()) | {"format": 2}), 6)


def test_a_bundle_tells_the_modality_of_each_token_and_asks_for_a_runtime_that_knows_them(tmp_path):
    folder = toy_bundle.write(tmp_path / "toy")
    assert Bundle.open(folder).modalities() is None
    found = example(toy_bundle.GENES + 2)
    (folder / "modalities.json").write_text(found.to_json(), encoding="utf-8")
    with pytest.raises(BundleError, match="what it tells needs 3"):
        seal(folder, toy_bundle.manifest(modalities=NAMES))
    seal(folder, toy_bundle.manifest(modalities=NAMES, format=3))
    assert Bundle.open(folder).modalities().to_json() == found.to_json()
    seal(folder, toy_bundle.manifest(modalities=NAMES[::-1], format=3))
    with pytest.raises(BundleError, match="other modalities than its manifest"):
        Bundle.open(folder).modalities()
