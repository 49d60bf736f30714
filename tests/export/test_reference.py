"""The reference gives what the original scGPT gave, on its plain path, for every head and option."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from scgpt_export.reference import ModelConfig, ScGPT, padding_bias
from scgpt_runtime.errors import OptionError

GOLDEN = Path(__file__).parents[1] / "golden"
LIMIT = 1e-5
CASES = json.loads((GOLDEN / "heads" / "cases.json").read_text())
TRANSFORMER_CASES = [name for name, case in CASES.items() if case["model"] == "TransformerModel"]


def golden(name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(GOLDEN / name) as arrays:
        return dict(arrays)


def part(arrays: dict[str, NDArray[np.generic]], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}


def config_of(constructor: dict[str, object]) -> ModelConfig:
    """The config that the original's constructor arguments stand for."""
    norm = {True: "dsbn", "batchnorm": "batchnorm"}.get(constructor.get("domain_spec_batchnorm", False))
    return ModelConfig(
        n_tokens=203, dim=32, n_heads=4, d_hid=48, n_layers=3, pad_id=200, n_cls=5, norm=norm,
        value_style=constructor.get("input_emb_style", "continuous"),
        pooling=constructor.get("cell_emb_style", "cls"),
        mvc=constructor.get("do_mvc", False),
        dab=constructor.get("do_dab", False),
        explicit_zero=constructor.get("explicit_zero_prob", False),
        batch_labels=constructor.get("use_batch_labels", False),
        n_batches=constructor.get("num_batch_labels", 0),
    )  # fmt: skip


def model_of(config: ModelConfig, state: dict[str, Tensor] | None = None, seed: int = 0) -> ScGPT:
    torch.manual_seed(seed)
    model = ScGPT(config)
    if state is not None:
        model.load_state_dict(state, strict=True)
    return model.eval()


def head_case(name: str) -> tuple[ScGPT, dict[str, Tensor], dict[str, Tensor]]:
    arrays = golden(f"heads/{name}.npz")
    model = model_of(config_of(CASES[name]["constructor"]), part(arrays, "state/"))
    inputs = part(arrays, "input/")
    inputs = {"ids": inputs["src"], "values": inputs["values"], "padding": inputs["src_key_padding_mask"]} | (
        {"batch": inputs["batch_labels"]} if "batch_labels" in inputs else {}
    )
    return model, inputs, part(arrays, "slow/")


def small_config(**changes: object) -> ModelConfig:
    fields: dict[str, object] = {
        "n_tokens": 30, "dim": 16, "n_heads": 4, "d_hid": 24, "n_layers": 2, "pad_id": 27, "n_cls": 3,
    }  # fmt: skip
    return ModelConfig(**(fields | changes))


def small_cells(n_cells: int = 3, length: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 27, (n_cells, length), generator=generator)
    values = torch.randint(0, 51, (n_cells, length), generator=generator).float()
    padding = torch.zeros(n_cells, length, dtype=torch.bool)
    padding[0, -2:] = True
    return {"ids": ids, "values": values, "padding": padding}


@pytest.mark.parametrize("name", TRANSFORMER_CASES)
def test_every_output_is_the_original_s(name: str) -> None:
    model, inputs, expected = head_case(name)
    flags = {flag.lower(): True for flag in CASES[name]["forward"]}
    with torch.no_grad():
        output = model(**inputs, **flags)
    assert set(output) == set(expected)
    for key, value in expected.items():
        kept = ~inputs["padding"] if value.shape == inputs["padding"].shape else ...
        assert (output[key] - value).abs()[kept].max() <= LIMIT, key


@pytest.mark.parametrize("name", TRANSFORMER_CASES)
def test_parameter_names_are_the_original_s_keys(name: str) -> None:
    state = part(golden(f"heads/{name}.npz"), "state/")
    shapes = {key: value.shape for key, value in ScGPT(config_of(CASES[name]["constructor"])).state_dict().items()}
    assert shapes == {key: value.shape for key, value in state.items()}


@pytest.fixture(scope="module")
def small_checkpoint() -> ScGPT:
    """The small checkpoint in the public layout, its keys renamed here by hand."""
    state = torch.load(GOLDEN / "small_checkpoint" / "best_model.pt", weights_only=True)
    state = {key.replace("self_attn.Wqkv.", "self_attn.in_proj_"): value for key, value in state.items()}
    del state["flag_encoder.weight"]
    config = ModelConfig(n_tokens=3203, dim=64, n_heads=4, d_hid=64, n_layers=2, pad_id=3200, mvc=True)
    return model_of(config, state)


@pytest.mark.parametrize("name", ["embed_small", "embed_small_sampled", "embed_small_continuous"])
def test_embeddings_of_given_tokens_are_the_original_s(small_checkpoint: ScGPT, name: str) -> None:
    arrays = golden(f"{name}.npz")
    cells = []
    for batch in range(sum(key.startswith("gene_") for key in arrays)):
        ids, values = (torch.from_numpy(arrays[f"{key}_{batch}"]) for key in ("gene", "expr"))
        padding = ids == small_checkpoint.config.pad_id
        with torch.no_grad():
            hidden = small_checkpoint.encode(ids, values, padding)
            cell = small_checkpoint.pool(hidden, values)
        if f"hidden_{batch}" in arrays:
            expected = torch.from_numpy(arrays[f"hidden_{batch}"])
            assert (hidden - expected).abs()[~padding].max() <= LIMIT
        assert np.abs(cell.numpy() - arrays[f"cls_{batch}"]).max() <= LIMIT
        cells.append(cell.numpy())
    embedded = np.concatenate(cells)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    assert np.abs(embedded - arrays["emb"]).max() <= LIMIT


def test_padding_changes_no_other_token() -> None:
    model, cells = model_of(small_config()), small_cells()
    longer = {
        "ids": torch.nn.functional.pad(cells["ids"], (0, 5), value=27),
        "values": torch.nn.functional.pad(cells["values"], (0, 5), value=-2.0),
        "padding": torch.nn.functional.pad(cells["padding"], (0, 5), value=True),
    }
    with torch.no_grad():
        short, long = model.encode(**cells), model.encode(**longer)
    assert torch.allclose(long[:, :7][~cells["padding"]], short[~cells["padding"]], atol=1e-6)


def test_rows_of_a_layer_are_the_rows_of_its_output() -> None:
    layer = model_of(small_config()).transformer_encoder.layers[0]
    x, bias = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2)), padding_bias(small_cells()["padding"])
    with torch.no_grad():
        assert torch.allclose(layer.rows(x[:, :1], x, bias), layer(x, bias)[:, :1], atol=1e-6)


def test_values_above_512_count_as_512_and_negative_marks_pass() -> None:
    encoder = model_of(small_config()).value_encoder
    with torch.no_grad():
        assert torch.equal(encoder(torch.tensor([[512.0]])), encoder(torch.tensor([[9000.0]])))
        assert not torch.allclose(encoder(torch.tensor([[-1.0]])), encoder(torch.tensor([[-2.0]])), atol=1e-3)


def test_category_values_are_rows_of_a_table() -> None:
    model = model_of(small_config(value_style="category", n_input_bins=53, pad_value=51))
    with torch.no_grad():
        model.value_encoder.embedding.weight[7] = model.value_encoder.embedding.weight[8]
        cells = small_cells() | {"values": torch.full((3, 7), 7.0)}
        same = model.encode(**cells), model.encode(**(cells | {"values": torch.full((3, 7), 8.0)}))
        other = model.encode(**(cells | {"values": torch.full((3, 7), 9.0)}))
    assert torch.equal(*same)
    assert not torch.allclose(same[0], other, atol=1e-3)


def domain_model() -> ScGPT:
    model = model_of(small_config(norm="dsbn", batch_labels=True, n_batches=3, explicit_zero=True, mvc=True))
    generator = torch.Generator().manual_seed(3)
    for bn in model.dsbn.bns:
        bn.running_mean.copy_(torch.randn(16, generator=generator))
        bn.running_var.copy_(torch.rand(16, generator=generator) + 0.5)
    return model


def test_each_cell_is_normed_by_its_own_batch_label_unless_the_original_s_rule_is_asked_for() -> None:
    model, cells, batch = domain_model(), small_cells(), torch.tensor([2, 0, 2])
    with torch.no_grad():
        own = model.encode(**cells, batch=batch)
        first = model.encode(**cells, batch=batch, domains="first")
        alone = model.encode(**{key: value[1:2] for key, value in cells.items()}, batch=batch[1:2])
        as_first = model.encode(**cells, batch=torch.tensor([2, 2, 2]))
    assert torch.allclose(own[1:2], alone, atol=1e-6)
    assert torch.allclose(first, as_first, atol=1e-6)
    assert not torch.allclose(own[1], first[1], atol=1e-2)


def test_w_pool_weighs_hidden_states_by_raw_values() -> None:
    model = model_of(small_config(pooling="w-pool"))
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    assert torch.allclose(model.pool(hidden, torch.tensor([[-3.0, 4.0, 0.0]])), torch.tensor([[-0.6, 0.8]]))


def test_sampled_values_are_the_values_or_zero() -> None:
    model, cells, batch = domain_model(), small_cells(8), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    with torch.no_grad():
        plain = model(**cells, batch=batch, mvc=True)
        torch.manual_seed(0)
        drawn = model(**cells, batch=batch, mvc=True, do_sample=True)
    for key in ("mlm_output", "mvc_output"):
        kept = drawn[key] != 0
        assert torch.equal(drawn[key][kept], plain[key][kept])
        assert 0 < kept.float().mean() < 1


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        ({}, {"batch": torch.tensor([0, 0, 0])}, "trained without them"),
        ({"batch_labels": True, "n_batches": 2}, {}, "2 batch labels and none were given"),
        ({"batch_labels": True, "n_batches": 2}, {"batch": torch.tensor([0, 1, 2])}, "0 to 2, expected 0 to 1"),
        ({"batch_labels": True, "n_batches": 2}, {"batch": torch.tensor([0, 1])}, r"shape \(2,\), expected \(3,\)"),
        ({"norm": "dsbn", "n_batches": 2}, {}, "2 batch labels and none were given"),
        ({"n_cls": 0}, {"cls": True}, "classifier"),
        ({}, {"mvc": True}, "decoder from the cell embedding"),
        ({"pooling": "w-pool"}, {"cce": True}, "w-pool"),
    ],
)
def test_a_wrong_question_says_what_is_wrong(
    config: dict[str, object], arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        model_of(small_config(**config))(**small_cells(), **arguments)


def test_it_trains_dropout_and_domain_statistics_included() -> None:
    model = domain_model().train()
    before = model.dsbn.bns[1].running_mean.clone()
    output = model(**small_cells(), batch=torch.tensor([1, 1, 1]), mvc=True, cce=True)
    (output["mlm_output"].mean() + output["mvc_output"].mean() + output["loss_cce"]).backward()
    assert not torch.equal(before, model.dsbn.bns[1].running_mean)
    assert model.encoder.embedding.weight.grad is not None
    assert model.encoder.embedding.weight.grad[27].abs().sum() == 0


@pytest.mark.filterwarnings("default")
def test_the_parts_trace_with_free_axes() -> None:
    class Embed(torch.nn.Module):
        def __init__(self, model: ScGPT) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, values: Tensor, padding: Tensor, batch: Tensor) -> Tensor:
            x, bias = self.model.embed_tokens(ids, values, batch), padding_bias(padding)
            *layers, last = self.model.transformer_encoder.layers
            for layer in layers:
                x = layer(x, bias)
            return last.rows(x[:, :1], x, bias)[:, 0]

    model, cells, batch = domain_model(), small_cells(), torch.tensor([2, 0, 2])
    n_cells, n_tokens = torch.export.Dim("cells", min=1, max=512), torch.export.Dim("tokens", min=2, max=2000)
    axes = {0: n_cells, 1: n_tokens}
    with torch.no_grad():
        program = torch.export.export(
            Embed(model),
            (cells["ids"], cells["values"], cells["padding"], batch),
            dynamic_shapes=(axes, axes, axes, {0: n_cells}),
        )
        more, labels = small_cells(5, 11), torch.tensor([0, 1, 2, 1, 0])
        traced = program.module()(more["ids"], more["values"], more["padding"], labels)
        assert torch.allclose(traced, model.encode(**more, batch=labels)[:, 0], atol=1e-6)
