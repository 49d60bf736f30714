"""What a wrapper of scGPT is configured with: `scGPTConfig`, by the field names that scripts use.

Fields in, checked when it is made. It opens no model; `differences` says which fields a model contradicts.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self, get_args

from scgpt_runtime.errors import OptionError
from scgpt_runtime.manifest import Manifest

__all__ = ["EmbMode", "scGPTConfig"]

EmbMode = Literal["cls", "cell", "gene"]

_ITS_OWN = ("pad_token", "nlayers", "nheads", "embsize", "d_hid", "n_layers_cls", "mask_value", "pad_value")
"""Fields that a model knows of itself, by the names of scGPT's ``args.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class scGPTConfig:  # noqa: N801 - the name that scripts import
    """Configuration of `scGPT`.

    Attributes
    ----------
    model
        A bundle (folder or zip), a checkpoint (folder or zip with ``best_model.pt``, ``args.json`` and ``vocab.json``;
        exported once into the cache), or ``demo``. None: ``demo``, with a warning.
    emb_mode
        ``cls``: the vector of ``<cls>``, as `scgpt_infer.embed` gives it; ``cell``: the mean over the cell's genes;
        ``gene``: a vector for each gene of each cell.
    device
        ``cpu``, ``cuda`` or ``cuda:N``. Without a GPU that can be used, ``cuda`` is the processor, with a warning.
    binning_seed
        Seed of the draws. 123, the default, stands for the seed that the model was sealed with.
    batch_size, dropout, world_size, accelerator
        Accepted, and without effect: batches are made by tokens, and nothing is dropped out.
    pad_token, nlayers, nheads, embsize, d_hid, n_layers_cls, mask_value, pad_value
        Accepted; the model's own values hold.

    Raises
    ------
    OptionError
        When there is no such field, or a value is not allowed.
    """

    model: str | Path | None = None
    emb_mode: EmbMode = "cell"
    device: str = "cpu"
    binning_seed: int = 123
    batch_size: int = 24
    dropout: float = 0.2
    world_size: int = 8
    accelerator: bool = False
    pad_token: str = "<pad>"
    nlayers: int = 12
    nheads: int = 8
    embsize: int = 512
    d_hid: int = 512
    n_layers_cls: int = 3
    mask_value: int = -1
    pad_value: int = -2

    def __new__(cls, *_: object, **named: object) -> Self:
        """Refuse fields that there are not; Python's own message would not name those that there are."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in named if name not in known]
        if unknown:
            raise OptionError(f"scGPTConfig has no field {unknown[0]!r}; it has {', '.join(known)}.")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        if self.emb_mode not in get_args(EmbMode):
            raise OptionError(f"emb_mode is {self.emb_mode!r}; expected one of {', '.join(get_args(EmbMode))}.")
        for name, least in (("batch_size", 1), ("binning_seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least {least}.")

    @property
    def seed(self) -> int | None:
        """Seed of the engine's draws; None for the one that the model was sealed with."""
        return None if self.binning_seed == _default("binning_seed") else self.binning_seed

    def differences(self, manifest: Manifest) -> list[str]:
        """The fields that were set to something else than what the model is, as text."""
        found = []
        for name in _ITS_OWN:
            asked, has = getattr(self, name), manifest.args.get(name)
            if asked != _default(name) and has is not None and asked != has:
                found.append(f"{name}={asked!r} (the model's: {has!r})")
        return found


def _default(name: str) -> object:
    return next(field.default for field in fields(scGPTConfig) if field.name == name)
