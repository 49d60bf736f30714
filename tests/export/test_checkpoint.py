"""A checkpoint loads whole, from every form it comes in, or is refused with all that is missing named."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from scgpt_export.checkpoint import Checkpoint, load
from scgpt_export.genes import build_vocabulary
from scgpt_export.reference import ModelConfig
from scgpt_runtime.errors import CheckpointError, OptionError

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = GOLDEN / "small_checkpoint"


def golden_state(case: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / "heads" / f"{case}.npz") as arrays:
        return {k.removeprefix("state/"): torch.from_numpy(arrays[k]) for k in arrays if k.startswith("state/")}


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A pretrained folder that the head cases could have been fine-tuned from."""
    folder = tmp_path / "base"
    folder.mkdir()
    tokens = [f"g{i}" for i in range(200)] + ["<pad>", "<cls>", "<eoc>"]
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    write_json(folder / "args.json", {"nheads": 4, "pad_value": -2, "input_emb_style": "continuous", "USE_CLS": False})
    return folder


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Path]:
    return {
        "labels": write_json(tmp_path / "labels.json", ["B", "DC", "Mono", "NK", "T"]),
        "batches": write_json(tmp_path / "batches.json", {"day1": 0, "day3": 2, "day2": 1}),
    }


def fine_tuned_file(tmp_path: Path, case: str) -> Path:
    torch.save(golden_state(case), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def ensembl_ids(n: int) -> dict[str, str]:
    """The first Ensembl ids of the small vocabulary's genes, with a version, and the names that they stand for."""
    vocabulary = build_vocabulary(load(SMALL).tokens)
    return {f"{gene}.7": vocabulary.tokens[token] for gene, token in list(vocabulary.ensembl.items())[:n]}


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    return list(one.state) == list(other.state) and all(torch.equal(v, other.state[k]) for k, v in one.state.items())


def test_the_public_layout_loads_from_a_folder() -> None:
    checkpoint = load(SMALL)
    assert checkpoint.config == ModelConfig(
        n_tokens=3203, dim=64, n_heads=4, d_hid=64, n_layers=2, pad_id=3200, pad_value=-2.0, mvc=True
    )
    assert checkpoint.tokens[3200:] == ["<pad>", "<cls>", "<eoc>"]
    assert checkpoint.cls_id == 3201
    assert checkpoint.unused == ("flag_encoder.weight",)
    assert checkpoint.missing == ()
    assert (checkpoint.fine_tuned, checkpoint.cls_value) == (False, -2.0)
    assert checkpoint.args["max_seq_len"] == 1200
    assert checkpoint.source == {
        name: hashlib.sha256((SMALL / name).read_bytes()).hexdigest()
        for name in ("best_model.pt", "args.json", "vocab.json")
    }


def test_the_loaded_model_embeds_as_the_original_did() -> None:
    checkpoint = load(SMALL)
    model = checkpoint.model()
    with np.load(GOLDEN / "embed_small.npz") as arrays:
        ids, values, expected = (torch.from_numpy(arrays[key]) for key in ("gene_0", "expr_0", "cls_0"))
    cell = model.pool(model.encode(ids, values, ids == checkpoint.config.pad_id), values)
    assert (cell - expected).abs().max() <= 1e-5
    assert not model.training
    assert not cell.requires_grad


def test_the_report_names_keys_not_used_and_not_found(tmp_path: Path, base: Path) -> None:
    state = golden_state("batchnorm")
    del state["bn.num_batches_tracked"]
    torch.save(state | {"adapter.weight": torch.ones(2)}, base / "best_model.pt")
    report = load(base).report()
    assert "keys not used: adapter.weight" in report
    assert "keys not found: bn.num_batches_tracked" in report
    assert "norm: batchnorm" in report
    assert "3 layers, width 32, 4 heads, feed-forward 48" in report
    assert "5 classes have no names" in report


def test_tensors_are_believed_over_args_and_the_report_says_so(tmp_path: Path) -> None:
    args = write_json(tmp_path / "args.json", {"nlayers": 6, "embsize": 64})
    checkpoint = load(SMALL, args=args)
    assert checkpoint.config.n_layers == 2
    assert "args.json says nlayers 6; the tensors say 2" in checkpoint.report()
    assert "embsize" not in checkpoint.report()


def test_a_fine_tuned_file_takes_the_rest_from_its_base(tmp_path: Path, base: Path, names: dict[str, Path]) -> None:
    checkpoint = load(fine_tuned_file(tmp_path, "dsbn_dab"), base=base, **names)
    assert checkpoint.labels == ("B", "DC", "Mono", "NK", "T")
    assert checkpoint.batches == ("day1", "day2", "day3")
    assert (checkpoint.fine_tuned, checkpoint.cls_value) == (True, 0.0)
    assert (checkpoint.config.norm, checkpoint.config.n_batches, checkpoint.config.n_cls) == ("dsbn", 3, 5)
    assert set(checkpoint.source) == {"model.pt", "base/args.json", "base/vocab.json"}
    assert "binning sees all genes" in checkpoint.report()
    assert "classes by number: 0 B, 1 DC, 2 Mono, 3 NK, 4 T" in checkpoint.report()
    assert "batches by number: 0 day1, 1 day2, 2 day3" in checkpoint.report()


def test_everything_that_a_fine_tuned_file_lacks_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load(fine_tuned_file(tmp_path, "dsbn_dab"))
    for lacking in ("nheads and pad_value", "vocab.json", "5 classes", "--labels", "3 batches", "--batches", "--base"):
        assert lacking in str(error.value)


@pytest.mark.parametrize("field", ["nheads", "pad_value"])
def test_an_args_field_that_tensors_cannot_tell_is_named(tmp_path: Path, field: str) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    args = json.loads((SMALL / "args.json").read_text())
    del args[field]
    write_json(tmp_path / "model" / "args.json", args)
    with pytest.raises(CheckpointError, match=rf"Give {field} \("):
        load(tmp_path / "model")
    assert load(tmp_path / "model", args=write_json(tmp_path / "more.json", {field: 4})).config.n_heads == 4


@pytest.mark.parametrize("option", ["labels", "batches", "modalities"])
def test_names_for_a_head_that_is_not_there_are_refused(option: str, tmp_path: Path) -> None:
    file = write_json(tmp_path / "names.json", ["a"])
    with pytest.raises(OptionError, match=f"no {option}"):
        load(SMALL, **{option: file})


def test_names_that_do_not_fit_the_head_are_refused(tmp_path: Path, base: Path, names: dict[str, Path]) -> None:
    names["labels"] = write_json(tmp_path / "few.json", ["B", "T"])
    with pytest.raises(CheckpointError, match=r"few.json names 2 labels \(B, T\), but the checkpoint has 5"):
        load(fine_tuned_file(tmp_path, "dsbn_dab"), base=base, **names)


def test_names_come_from_columns_of_an_h5ad(tmp_path: Path, base: Path) -> None:
    obs = pd.DataFrame(
        {"type": ["T", "B", "NK", "DC", "Mono", "B"], "day": [10, 2, 1, 2, 10, 1]}, index=[f"c{i}" for i in range(6)]
    )
    var = pd.DataFrame({"symbol": ["g5", "g3"]}, index=["x", "y"])
    anndata.AnnData(np.zeros((6, 2), np.float32), obs=obs, var=var).write_h5ad(tmp_path / "cells.h5ad")
    checkpoint = load(
        fine_tuned_file(tmp_path, "dsbn_dab"),
        base=base,
        labels=tmp_path / "cells.h5ad:type",
        batches=tmp_path / "cells.h5ad:day",
        genes=tmp_path / "cells.h5ad:symbol",
    )
    assert checkpoint.labels == ("B", "DC", "Mono", "NK", "T")
    assert checkpoint.batches == ("1", "10", "2")  # scGPT's tutorials turn batches into text first
    assert checkpoint.binning_genes == ("g5", "g3")
    assert "binning sees all genes" not in checkpoint.report()


def test_genes_of_fine_tuning_are_kept_by_their_names_in_the_vocabulary(tmp_path: Path) -> None:
    symbol = load(SMALL).tokens[0]
    genes = write_json(tmp_path / "genes.json", [symbol, *ensembl_ids(2), "nothing", "<cls>", symbol])
    checkpoint = load(SMALL, genes=genes)
    assert set(checkpoint.binning_genes) == {symbol, *ensembl_ids(2).values()}
    assert set(checkpoint.binning_genes) < set(checkpoint.tokens)
    assert "4 of 6 genes of fine-tuning are in the vocabulary, not nothing, <cls>" in checkpoint.report()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Xkr4", "Gm1992"], r"0 of 2 genes .* names Xkr4, Gm1992; the vocabulary has .* 3,195 more"),
        (["ENSMUSG00000051951"], r"0 of 1 genes .*Ensembl ids were looked up"),
    ],
)
def test_genes_that_the_vocabulary_hardly_has_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(SMALL, genes=write_json(tmp_path / "genes.json", names))


def test_a_list_of_which_a_tenth_is_known_is_the_least_that_is_taken(tmp_path: Path) -> None:
    symbol = load(SMALL).tokens[0]
    unknown = [f"unknown{i}" for i in range(10)]
    assert load(SMALL, genes=write_json(tmp_path / "tenth.json", [symbol, *unknown[:9]])).binning_genes == (symbol,)
    with pytest.raises(CheckpointError, match="1 of 11 genes"):
        load(SMALL, genes=write_json(tmp_path / "less.json", [symbol, *unknown]))


def test_a_bare_one_class_head_needs_no_label_names(tmp_path: Path, base: Path) -> None:
    state = golden_state("base")
    state |= {key: state[key][:1].clone() for key in ("cls_decoder.out_layer.weight", "cls_decoder.out_layer.bias")}
    torch.save(state, tmp_path / "model.pt")
    assert load(tmp_path / "model.pt", base=base).labels == ()


@pytest.mark.parametrize(
    ("case", "fields", "fine_tuned"),
    [
        ("base", {"USE_CLS": False}, True),  # a classifier that pretraining did not train
        ("base", {"USE_CLS": True}, False),  # continual pretraining with cell types
        ("base", {"USE_CLS": False, "fine_tuned": False}, False),
        ("dsbn_dab", {"USE_CLS": True}, True),  # pretraining has no batches
        ("batchnorm", {"USE_CLS": True}, True),
    ],
)
def test_what_cls_carries_follows_how_the_model_was_trained(
    base: Path, case: str, fields: dict[str, Any], fine_tuned: bool
) -> None:
    torch.save(golden_state(case), base / "best_model.pt")
    write_json(base / "args.json", {"nheads": 4, "pad_value": -2} | fields)
    assert load(base).fine_tuned is fine_tuned


def test_safetensors_and_an_older_torch_format_load_the_same(tmp_path: Path) -> None:
    state = torch.load(SMALL / "best_model.pt", weights_only=True)
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    expected = load(SMALL)
    for name in ("model.safetensors", "old.pth"):
        assert same_weights(load(tmp_path / name, base=SMALL), expected)
    assert load(tmp_path / "old.pth", base=SMALL).fine_tuned is False  # pretraining's own tensor gives it away


def test_half_precision_weights_load_as_float32(tmp_path: Path) -> None:
    state = torch.load(SMALL / "best_model.pt", weights_only=True)
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.pt")
    assert {value.dtype for value in load(tmp_path / "half.pt", base=SMALL).state.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        ({"a": 0, "<pad>": 2, "<cls>": 3}, "none with the id 1"),
        ({"a": 0, "b": 0, "<pad>": 1}, "gives the id 0 to a, b"),
        ({"a": "0"}, "ids of a are not whole numbers"),
        ({f"g{i}": i for i in range(3000)}, r"3,000 tokens \(3,003 with <pad>, <cls>, <eoc>\).* 3,203 rows"),
        ({f"g{i}": i for i in range(3203)}, "no <pad> and no <cls>"),
        (["a", "b"], "no mapping"),
        ({}, "no mapping"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, vocabulary: object, said: str) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    write_json(tmp_path / "model" / "vocab.json", vocabulary)
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path / "model")


def test_special_tokens_that_the_vocabulary_lacks_come_behind_it(tmp_path: Path) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    tokens = json.loads((SMALL / "vocab.json").read_text())
    write_json(tmp_path / "model" / "vocab.json", {k: v for k, v in tokens.items() if not k.startswith("<")})
    assert load(tmp_path / "model").tokens == load(SMALL).tokens


def test_a_token_that_stands_twice_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    text = (SMALL / "vocab.json").read_text()
    (tmp_path / "model" / "vocab.json").write_text(text.replace("{", '{"<cls>": 0,', 1))
    with pytest.raises(CheckpointError, match="<cls> more than once"):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nheads": 5}, "nheads 5.* divides the width 64"),
        ({"nheads": True}, "nheads True"),
        ({"nheads": "4"}, "nheads '4'"),
        ({"pad_value": "-2"}, "pad_value '-2'"),
        ({"cell_emb_style": "max"}, "cell_emb_style 'max', expected one of cls, avg-pool, w-pool"),
    ],
)
def test_args_that_no_model_can_have_are_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(SMALL, args=write_json(tmp_path / "args.json", fields))


def test_our_own_args_choose_pooling(tmp_path: Path) -> None:
    args = write_json(tmp_path / "args.json", {"cell_emb_style": "avg-pool"})
    assert load(SMALL, args=args).config.pooling == "avg-pool"
