"""Graphs in ONNX Runtime say what the original scGPT said: every head and option, every key, at 1e-5 in fp32."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from scgpt_export.multiomic import model_class
from scgpt_export.passes import sequence
from scgpt_export.prepare import graph_of, signatures_of
from scgpt_export.reference import ModelConfig, MultiOmicConfig
from scgpt_export.store import WeightStore
from scgpt_export.trace import trace
from scgpt_runtime.manifest import TokenizerSettings

HEADS = Path(__file__).parents[1] / "golden" / "heads"
LIMIT = 1e-5
CASES = json.loads((HEADS / "cases.json").read_text())
OF_CELLS = [name for name, case in CASES.items() if case["model"] != "TransformerGenerator"]
SETTINGS = TokenizerSettings(cls_id=201, pad_id=200, cls_value=0.0)
UNPADDED = 0
"""The goldens' one cell without padding."""

ANSWERS = {
    "mlm_output": ("expression", "value"),
    "mlm_zero_probs": ("expression", "nonzero"),
    "mvc_output": ("mvc", "value"),
    "mvc_zero_probs": ("mvc", "nonzero"),
    "cls_output": ("classify", "logits"),
    "dab_output": ("discriminate", "logits"),
    "cell_emb": ("embed", "cell"),
}
"""Key of the original's answer to the task and output that give it."""

LOSSES = {"loss_cce", "loss_ecs"}
"""Of training alone: no graph has them, and `test_reference` compares them."""

Arrays = dict[str, NDArray[Any]]


def config_of(constructor: dict[str, Any]) -> ModelConfig:
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
        multiomic=MultiOmicConfig(constructor["ntokens_mod"], pad=2, cls=3) if constructor.get("use_mod") else None,
    )  # fmt: skip


def run(path: Path, given: Arrays) -> Arrays:
    """What a graph on disk answers, by the names of its outputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in session.get_outputs()]
    feed = {spec.name: given[spec.name] for spec in session.get_inputs()}
    return dict(zip(names, session.run(names, feed), strict=True))


@cache
def case_of(name: str) -> Arrays:
    with np.load(HEADS / f"{name}.npz") as arrays:
        return dict(arrays)


def inputs_of(case: Arrays) -> Arrays:
    """The golden inputs as graphs take them: values as codes, the padding mask as lengths."""
    values, padding = case["input/values"], case["input/src_key_padding_mask"]
    given = {
        "ids": case["input/src"].astype(np.uint16),
        "values": np.where(padding, SETTINGS.pad_code, values).astype(np.uint8),
        "lengths": (~padding).sum(axis=1).astype(np.int32),
    }
    for name, key, dtype in (("batch", "batch_labels", np.int32), ("mods", "mod_types", np.uint8)):
        if f"input/{key}" in case:
            given[name] = case[f"input/{key}"].astype(dtype)
    return given


@pytest.fixture(scope="module", params=OF_CELLS)
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """A case, and its exported fp32 graphs by task."""
    case = case_of(request.param)
    config = config_of(CASES[request.param]["constructor"])
    model = model_class(config)(config)
    state = {key.removeprefix("state/"): torch.from_numpy(case[key]) for key in case if key.startswith("state/")}
    model.load_state_dict(state, strict=True)
    folder = tmp_path_factory.mktemp(request.param)
    store, paths = WeightStore(folder), {}
    for (task, _), shape in signatures_of(config, SETTINGS, ("fp32",)).items():
        if task in {"tokens", *(of_task for of_task, _ in ANSWERS.values())}:
            traced = trace(graph_of(model.eval().requires_grad_(False), SETTINGS, task), shape)
            sequence("fp32")(traced)
            paths[task] = store.write(traced, f"{task}.onnx")
    return request.param, paths


def answers_of(paths: dict[str, Path], given: Arrays, cell: NDArray[np.float32] | None = None) -> Arrays:
    """Answers of all graphs under the original's keys; heads read `cell` where given, else what ``embed`` says."""
    known = given | run(paths["tokens"], given) | run(paths["embed"], given)
    known |= {} if cell is None else {"cell": cell}
    found = {task: run(path, known) for task, path in paths.items() if task not in ("tokens", "embed")}
    found["embed"] = {"cell": known["cell"]}
    return {key: found[task][name] for key, (task, name) in ANSWERS.items() if task in found and name in found[task]}


def differences(found: Arrays, case: Arrays, rows: slice = slice(None)) -> dict[str, float]:
    """Largest difference to the original at what is not padding, by key."""
    inside = ~case["input/src_key_padding_mask"]
    expected = {key.removeprefix("slow/"): value for key, value in case.items() if key.startswith("slow/")}
    assert set(found) == set(expected) - LOSSES
    worst = {}
    for key, value in found.items():
        kept = inside[rows] if value.shape == inside.shape else ...
        worst[key] = float(np.abs(value[rows] - expected[key][rows])[kept].max())
    return worst


def test_every_key_is_the_original_s(graphs: tuple[str, dict[str, Path]]) -> None:
    name, paths = graphs
    case = case_of(name)
    # What pools over tokens is asked for the cell without padding alone: see the test below.
    pools = "cell_emb_style" in CASES[name]["constructor"]
    rows = slice(UNPADDED, UNPADDED + 1) if pools else slice(None)
    worst = differences(answers_of(paths, inputs_of(case)), case, rows)
    assert max(worst.values()) <= LIMIT, worst


@pytest.mark.parametrize("graphs", ["avg_pool"], indirect=True)
def test_the_mean_pool_leaves_padding_out_and_heads_are_the_original_s_with_it(
    graphs: tuple[str, dict[str, Path]],
) -> None:
    """The original's mean counts padding, so a cell's vector there depends on how far it was padded; ours does not."""
    name, paths = graphs
    case, given = case_of(name), inputs_of(case_of(name))
    hidden = run(paths["tokens"], given)["hidden"]  # at padding: what attending from there gives, as in the original
    with_padding = answers_of(paths, given, hidden.mean(axis=1))
    worst = differences(with_padding, case)
    assert max(worst.values()) <= LIMIT, worst
    ours = run(paths["embed"], given)["cell"]
    for cell, length in enumerate(given["lengths"]):
        assert np.abs(ours[cell] - hidden[cell, :length].mean(axis=0)).max() <= LIMIT
    apart = np.abs(ours - case["slow/cell_emb"]).max(axis=1)
    assert apart[UNPADDED] <= LIMIT
    assert apart[UNPADDED + 1 :].min() > 0.05
