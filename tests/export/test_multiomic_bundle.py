"""Multi-omic checkpoints become bundles: their heads answer like the reference, and the bundle proves itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scgpt_export.build import ExportOptions, export
from scgpt_export.checkpoint import load
from scgpt_export.modality_graphs import answers_from_cell
from scgpt_export.multiomic import MultiOmicScGPT
from scgpt_export.passes import sequence
from scgpt_export.prepare import graph_of, signatures_of
from scgpt_export.reference import ModelConfig, MultiOmicConfig
from scgpt_export.store import WeightStore
from scgpt_export.trace import trace
from scgpt_infer.cli.inspect import report
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import CheckpointError, OptionError
from scgpt_runtime.manifest import TokenizerSettings
from scgpt_runtime.verify import verify

from .test_golden_heads import run

N_TOKENS = 70_000
NAMES = ("ATAC", "Protein", "RNA", "<pad>", "<cls>", "<eoc>")
MODALITIES = {"modalities": NAMES, "prefixes": {"ATAC": "chr", "Protein": "p_"}}
SMALL = {"n_tokens": 60, "dim": 32, "n_heads": 4, "d_hid": 48, "n_layers": 2, "pad_id": 58, "mvc": True}
MODS = MultiOmicConfig(n_modalities=6, pad=3, cls=4)


def seeded(config: ModelConfig) -> MultiOmicScGPT:
    torch.manual_seed(3)
    return MultiOmicScGPT(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "changes",
    [
        {"multiomic": MODS, "explicit_zero": True},
        {"multiomic": MODS, "batch_labels": True, "n_batches": 3},
        {"multiomic": MultiOmicConfig(), "batch_labels": True, "n_batches": 3, "explicit_zero": True},
        {"multiomic": MODS, "pooling": "avg-pool"},
    ],
    ids=["modalities", "both", "labels", "avg-pool"],
)
def test_heads_answer_like_the_reference(changes: dict[str, object], tmp_path: Path) -> None:
    config = ModelConfig(**SMALL, **changes)
    model, settings = seeded(config), TokenizerSettings(cls_id=59, pad_id=58, cls_value=0.0)
    drawn = np.random.default_rng(1)
    given = {
        "ids": drawn.integers(0, 58, (3, 9)).astype(np.uint16),
        "mods": drawn.integers(0, 3, (3, 9)).astype(np.uint8),
        "batch": np.array([2, 0, 1], np.int32),
        "hidden": drawn.normal(size=(3, 9, 32)).astype(np.float32),
        "cell": drawn.normal(size=(3, 32)).astype(np.float32),
    }
    given["mods"][:, 0] = MODS.cls
    taken = {key: torch.from_numpy(value.astype(np.int64)) for key, value in given.items() if value.dtype.kind != "f"}
    batch = taken["batch"] if config.batch_labels else None
    mods = taken["mods"] if model.mod_encoder is not None else None
    hidden, cell = (torch.from_numpy(given[key]) for key in ("hidden", "cell"))
    expected = {"expression": model.predict(hidden, batch, mods)}
    if answers_from_cell(config):
        expected["mvc"] = model.predict_from_cell(cell, taken["ids"], batch, mods)
    signatures = {task: shape for (task, _), shape in signatures_of(config, settings, ("fp32",)).items()}
    assert {"expression", "mvc"} & signatures.keys() == expected.keys()
    store = WeightStore(tmp_path)
    for task, answers in expected.items():
        traced = trace(graph_of(model, settings, task), signatures[task])
        sequence("fp32")(traced)
        found = run(store.write(traced, f"{task}.onnx"), given)
        assert list(found) == (["value", "nonzero"] if config.explicit_zero else ["value"])
        for one, other in zip(found.values(), filter(lambda answer: answer is not None, answers), strict=True):
            assert np.abs(one - other.numpy()).max() <= 1e-5


def write_checkpoint(folder: Path) -> Path:
    """Random weights of a model of RNA, proteins and peaks, with batch labels and a discriminator."""
    tokens = [f"g{i}" for i in range(500)] + [f"p_{i}" for i in range(40)] + ["<pad>", "<cls>", "<eoc>"]
    tokens += [f"chr1-{500 * i}-{500 * i + 400}" for i in range(N_TOKENS - len(tokens))]
    config = ModelConfig(
        n_tokens=N_TOKENS, dim=16, n_heads=2, d_hid=16, n_layers=1, pad_id=tokens.index("<pad>"), mvc=True, n_cls=1,
        dab=True, batch_labels=True, n_batches=2, multiomic=MODS,
    )  # fmt: skip
    folder.mkdir()
    torch.save(seeded(config).state_dict(), folder / "best_model.pt")
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    args = {"nheads": 2, "pad_value": -2, "mask_value": -1, "max_seq_len": 48, "n_bins": 51}
    (folder / "args.json").write_text(json.dumps(args))
    (folder / "modalities.json").write_text(json.dumps(MODALITIES))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("multiomic") / "checkpoint")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Bundle:
    output = checkpoint.parent / "bundle"
    loaded = load(checkpoint, modalities=checkpoint / "modalities.json")
    export(loaded, output, ExportOptions(("fp32", "fp16")))
    return Bundle.open(output)


def test_a_bundle_knows_the_modality_of_each_of_70_000_tokens(bundle: Bundle) -> None:
    found, vocabulary = bundle.modalities(), bundle.vocabulary()
    assert bundle.manifest.modalities == found.names == NAMES
    assert bundle.manifest.format == 3
    assert found.measured == ("ATAC", "Protein", "RNA")
    assert found.prefixes == {"ATAC": "chr", "Protein": "p_"}
    for token, name in (("g3", "RNA"), ("p_3", "Protein"), ("<cls>", "<cls>"), (vocabulary.tokens[-1], "ATAC")):
        assert found.names[found.of_tokens[vocabulary.index[token]]] == name


def test_graphs_take_wide_ids_and_modalities(bundle: Bundle) -> None:
    inputs = {
        task: {spec.name: spec.dtype for spec in bundle.graph(task, "fp32").inputs}
        for task in ("embed", "mvc", "genes")
    }
    assert inputs["mvc"] == {"cell": "float32", "ids": "uint32", "mods": "uint8", "batch": "int32"}
    assert inputs["embed"]["ids"] == inputs["genes"]["ids"] == "uint32"
    assert "mods" not in inputs["embed"]
    (logits,) = bundle.graph("discriminate", "fp32").outputs
    assert logits.shape == ("cells", 2)


def test_it_proves_itself_on_cells_of_all_modalities(bundle: Bundle) -> None:
    golden = bundle.golden()
    assert golden.ids.max() > 65_535
    assert {*bundle.modalities().of_tokens[golden.ids].tolist()} >= {0, 2, 4}
    results = verify(bundle, "cpu")
    assert [result.precision for result in results if result.passed] == ["fp32", "fp16"]
    measured = {record.task for record in bundle.manifest.parity if record.precision == "fp16"}
    assert measured >= {"embed", "tokens", "expression", "mvc", "discriminate"}


def test_inspect_tells_modalities_and_their_tokens(bundle: Bundle) -> None:
    told = report(bundle.manifest, bundle.modalities())
    peaks, proteins = "ATAC (0, 69,457 tokens, named chr*)", "Protein (1, 40 tokens, named p_*)"
    assert f"Modalities (3): {peaks}, {proteins}, RNA (2, 500 tokens)" in told.splitlines()
    assert "  commands    embed, annotate, integrate, multiomic, impute, grn, genes" in told
    assert "discriminate" in told


def test_another_assignment_of_tokens_makes_other_vectors(checkpoint: Path, tmp_path: Path) -> None:
    from scgpt_export.provenance import weights_digest

    other = tmp_path / "other.json"
    other.write_text(json.dumps(MODALITIES | {"prefixes": {"ATAC": "chr", "Protein": "p_1"}}))
    given = [load(checkpoint, modalities=path) for path in (checkpoint / "modalities.json", other)]
    assert len({weights_digest(loaded) for loaded in given}) == 2


def test_what_tells_the_tokens_is_asked_for(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its 6 modalities and their tokens \(--modalities: JSON\)"):
        load(checkpoint)


def test_modalities_of_a_model_without_any_are_refused(tmp_path: Path, golden_files: Path) -> None:
    (tmp_path / "modalities.json").write_text(json.dumps(MODALITIES))
    with pytest.raises(OptionError, match="has no modalities: leave it out"):
        load(golden_files / "small_checkpoint", modalities=tmp_path / "modalities.json")
