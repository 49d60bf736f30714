import json
from dataclasses import asdict, replace

import pytest

from scgpt_runtime.errors import BundleChangedError, BundleError, BundleTooNewError
from scgpt_runtime.manifest import (
    FORMAT,
    FileRecord,
    GraphRecord,
    Manifest,
    ParityRecord,
    Taught,
    TaughtClass,
    TensorSpec,
    TokenizerSettings,
    digest_of,
    format_of,
    inside,
    vector_id,
)


def example() -> Manifest:
    tensors = (TensorSpec("ids", "uint16", ("cells", "tokens")),)
    return Manifest(
        name="toy",
        args={"nlayers": 2, "mask_ratio": [0.25, 0.5], "load_model": None},
        source={"best_model.pt": "a" * 64},
        weights="b" * 64,
        dim=8,
        pooling="cls",
        tokenizer=TokenizerSettings(cls_id=1, pad_id=0),
        genes={"HGNC": "2024"},
        precisions=("fp32",),
        vector_ids={"fp32": "c" * 32},
        graphs=(GraphRecord("embed", "fp32", "portable", "graphs/e.onnx", 20, tensors, tensors),),
        parity=(ParityRecord("embed", "fp32", "CPUExecutionProvider 1", "1-cosine", 1e-8, 1e-6, 16),),
        built_with={"scgpt-infer": "0.1.0"},
        labels=("B cell", "β cell"),
        files=(FileRecord("graphs/e.onnx", 3, "d" * 64),),
    )


def test_reads_back_what_it_wrote():
    text = example().to_json()
    assert Manifest.from_json(text) == example()
    assert Manifest.from_json(text).to_json() == text


def test_a_newer_format_names_both_numbers_and_the_upgrade():
    told = json.loads(example().to_json()) | {"format": FORMAT + 1, "graphs": "of another shape"}
    with pytest.raises(BundleTooNewError, match=rf"format {FORMAT + 1}.*up to {FORMAT}.*pip install -U"):
        Manifest.from_json(json.dumps(told))


def test_zeros_need_a_format_that_runtimes_without_them_refuse():
    with_zeros = replace(example(), tokenizer=TokenizerSettings(cls_id=1, pad_id=0, include_zeros=True))
    assert format_of(example().tokenizer) == 1
    assert format_of(with_zeros.tokenizer) == 2
    with pytest.raises(BundleError, match="what it tells needs 2"):
        with_zeros.to_json()
    assert Manifest.from_json(replace(with_zeros, format=2).to_json()).tokenizer.include_zeros


def test_a_field_of_a_later_version_is_left_out():
    told = json.loads(example().to_json()) | {"colour": "green"}
    assert Manifest.from_json(json.dumps(told | {"digest": digest_of(told)})) == example()


def test_fields_that_an_older_writer_did_not_know_take_their_default():
    told = json.loads(example().to_json())
    del told["labels"], told["tokenizer"]["ties"]
    read = Manifest.from_json(json.dumps(told | {"digest": digest_of(told)}))
    assert read.labels == ()
    assert read.tokenizer.ties == "hash"


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 9},
        {"key": "X_other"},
        {"weights": "0" * 64},
        {"binning_genes": ["A"]},
        {"tokenizer": {**json.loads(example().to_json())["tokenizer"], "n_bins": 41}},
        {"digest": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_manifest_that_was_changed_after_sealing_is_refused(change):
    told = json.loads(example().to_json()) | change
    with pytest.raises(BundleChangedError, match="not the one that was sealed"):
        Manifest.from_json(json.dumps(told))


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"format": "1"}', '{"format": 0}', '{"format": true}'])
def test_what_is_not_a_manifest_is_refused(text):
    with pytest.raises(BundleError):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dim": "8"}, "dim"),
        ({"dim": 0}, "wide"),
        ({"dim": True}, "dim"),
        ({"labels": "B"}, "labels"),
        ({"labels": [1]}, r"labels\[0\]"),
        ({"precisions": ["fp16"], "vector_ids": {"fp16": "x"}}, "precision fp32"),
        ({"vector_ids": {}}, "vector ids"),
        ({"files": [{"path": "../e", "size": 3, "sha256": "d" * 64}]}, "plain path"),
        ({"files": [{"path": "e", "size": 3, "sha256": "d"}]}, "sha256"),
        ({"files": [{"path": "e", "size": 3, "sha256": "d" * 64}]}, "graphs/e.onnx"),
        ({"files": [{"path": "e", "size": 3, "sha256": "d" * 64}] * 2}, "twice"),
        ({"tokenizer": {"cls_id": 1}}, "pad_id"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 1}}, "two different"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 0, "max_length": 1}}, "max_length"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 0, "n_bins": 255}}, "n_bins"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 0, "seed": -1}}, "seed"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 0, "ties": "random"}}, "ties"),
        ({"tokenizer": {"cls_id": 1, "pad_id": 0, "cls_value": 0.5}}, "<cls>"),
    ],
)
def test_a_contradiction_is_named(change, word):
    with pytest.raises(BundleError, match=word):
        Manifest.from_json(json.dumps(json.loads(example().to_json()) | change))


def test_a_precision_without_a_figure_is_unmeasured():
    ids = {"fp32": "c" * 32, "bf16": "e" * 32}
    both = replace(example(), precisions=("fp32", "bf16"), vector_ids=ids)
    assert Manifest.from_json(both.to_json()).unmeasured == ("bf16",)
    assert example().unmeasured == ()


def test_a_value_that_json_cannot_hold_is_refused_when_written():
    with pytest.raises(BundleError, match="JSON"):
        replace(example(), args={"lr": float("nan")}).to_json()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../x", "a\\x", "C:x", "", ".", "./x", "a//x", "a/", "a\0b"])
def test_paths_that_leave_the_bundle_or_have_two_spellings_are_not_inside(path):
    assert not inside(path)


def test_plain_paths_are_inside():
    assert inside("vocab.json")
    assert inside("graphs/embed.fp32.portable.onnx")


def test_everything_that_changes_a_vector_changes_its_id():
    settings = TokenizerSettings(cls_id=1, pad_id=0)
    base = ("w", "v", "cls", settings, "exact", "fp32")
    others = [
        ("W", *base[1:]),
        ("w", "V", *base[2:]),
        ("w", "v", "avg-pool", *base[3:]),
        ("w", "v", "cls", settings, "alias", "fp32"),
        ("w", "v", "cls", settings, "exact", "fp16"),
    ]
    changed = {"max_length": 600, "seed": 1, "ties": "one-sided", "sample": "top", "cls_value": 0.0, "n_bins": 41}
    changed |= {"cls_id": 2, "pad_id": 3, "value_style": "raw", "mask_value": -3.0, "pad_value": -4.0}
    changed |= {"include_zeros": True}
    assert set(changed) == set(asdict(settings))
    others += [("w", "v", "cls", replace(settings, **{key: to}), "exact", "fp32") for key, to in changed.items()]
    ids = {vector_id(*told) for told in (base, *others)}
    assert len(ids) == 1 + len(others)
    assert vector_id(*base) == vector_id(*base)


def test_the_id_of_given_settings_never_changes():
    # Changing it makes every stored vector of every user incomparable: a breaking change.
    assert vector_id("w", "v", "cls", TokenizerSettings(1, 0), "exact", "fp32") == "89dac3262684098fd2d222bc286039c1"


def taught() -> Taught:
    classes = tuple(TaughtClass(name, 5, 0.5, 1.0, 2 / 3) for name in example().labels)
    return Taught(
        column="cell_type",
        cells=10,
        left_out={"no label": 3},
        by="donor",
        groups=2,
        folds=2,
        penalty="l2",
        regularisation=0.3,
        balanced=False,
        vector_id="c" * 32,
        file="",
        vectors="e" * 64,
        scikit_learn="1.9.1",
        accuracy=0.5,
        macro_f1=0.5,
        weighted_f1=0.5,
        confident=0.0,
        accuracy_of_confident=None,
        calibration_error=0.1,
        classes=classes,
    )


def test_what_a_classifier_was_taught_is_read_back():
    told = replace(example(), taught=taught())
    assert Manifest.from_json(told.to_json()) == told


def test_a_bundle_of_before_heads_were_taught_opens():
    told = json.loads(example().to_json())
    del told["taught"]
    assert Manifest.from_json(json.dumps(told | {"digest": digest_of(told)})).taught is None


def test_labels_that_were_not_taught_are_a_contradiction():
    with pytest.raises(BundleError, match="not the classes"):
        replace(example(), taught=taught(), labels=("B cell",)).to_json()
