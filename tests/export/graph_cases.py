"""Small models and inputs that the tests of graphs, rewrites and passes share."""

import numpy as np
import torch

from scgpt_export.reference import ModelConfig, ScGPT
from scgpt_runtime.manifest import TokenizerSettings

N_TOKENS, PAD, CLS = 60, 58, 59
LENGTHS = np.array([9, 5, 2], np.int32)

CASES = {
    "continuous": {},
    "category": {"value_style": "category", "n_input_bins": 53, "pad_value": 51.0},
    "scaling": {"value_style": "scaling"},
    "batchnorm": {"norm": "batchnorm"},
    "dsbn": {"norm": "dsbn", "n_batches": 3, "batch_labels": True},
    "avg-pool": {"pooling": "avg-pool"},
    "w-pool": {"pooling": "w-pool"},
    "heads": {"mvc": True, "n_cls": 4, "explicit_zero": True},
}


def make_model(case: str) -> ScGPT:
    """A seeded model whose norms and biases are not the identity, so that leaving one out shows."""
    torch.manual_seed(3)
    config = ModelConfig(
        **{"n_tokens": N_TOKENS, "dim": 32, "n_heads": 4, "d_hid": 48, "n_layers": 2, "pad_id": PAD, **CASES[case]}
    )
    model = ScGPT(config).eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and value.dim() == 1:
                value.add_(torch.rand_like(value) * (0.5 if "var" in name or "norm" in name else 0.2))
    return model


def make_settings(case: str) -> TokenizerSettings:
    category = case == "category"
    return TokenizerSettings(
        cls_id=CLS, pad_id=PAD, pad_value=51.0 if category else -2.0, mask_value=52.0 if category else -1.0,
        cls_value=51.0 if category else -2.0,
    )  # fmt: skip


def make_inputs(settings: TokenizerSettings) -> dict[str, np.ndarray]:
    """Three padded cells of 9, 5 and 2 tokens."""
    random = np.random.default_rng(5)
    shape = (len(LENGTHS), int(LENGTHS.max()))
    ids = random.integers(0, 57, shape).astype(np.uint16)
    values = random.integers(1, 51, shape).astype(np.uint8)
    ids[:, 0], values[:, 0] = CLS, settings.cls_code
    padding = np.arange(shape[1])[None] >= LENGTHS[:, None]
    ids[padding], values[padding] = PAD, settings.pad_code
    return {"ids": ids, "values": values, "lengths": LENGTHS, "batch": np.array([2, 0, 1], np.int32)}


def reference_of(model: ScGPT, settings: TokenizerSettings, inputs: dict[str, np.ndarray], cell: int) -> dict:
    """What the reference says of one of the cells, alone and unpadded."""
    length = int(inputs["lengths"][cell])
    ids = torch.from_numpy(inputs["ids"][[cell], :length].astype(np.int64))
    levels = np.array(settings.levels, np.float32)[inputs["values"][[cell], :length]]
    batch = torch.tensor([int(inputs["batch"][cell])]) if model.config.needs_batch else None
    padding = torch.zeros_like(ids, dtype=torch.bool)
    with torch.no_grad():
        found = model(ids, torch.from_numpy(levels), padding, batch, cls=bool(model.config.n_cls), mvc=model.config.mvc)
        found["hidden"] = model.encode(ids, torch.from_numpy(levels), padding, batch)
    return {name: value.numpy()[0] for name, value in found.items() if value.dim()}


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Half the squared distance of unit vectors, which is 1 - cosine."""
    a, b = (x.ravel().astype(np.float64) for x in (found, expected))
    return float(0.5 * np.square(a / np.linalg.norm(a) - b / np.linalg.norm(b)).sum())
