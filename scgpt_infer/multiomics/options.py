"""What is asked of cells of several modalities: `MultiomicOptions`, checked when it is made.

It knows the values that are allowed; it does not know which modalities a model or a file has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from scgpt_infer.integration import IntegrateOptions
from scgpt_runtime.errors import OptionError

__all__ = ["MultiomicOptions", "PredictFrom"]

PredictFrom = Literal["embedding", "tokens"]
"""What values are told from: the cell's vector (scGPT's MVC), or its tokens, where what is asked stands masked."""


@dataclass(frozen=True, slots=True)
class MultiomicOptions:
    """How cells of several modalities are read, and what is told of them beside their vectors.

    Attributes
    ----------
    modalities
        Modality of the model to what the cells call it; only these are read. Empty: those that are recognised.
    predict
        Modalities of the model, for all of their features, or features by name, after their modality and a colon where
        several have the name: their values are predicted, measured or not.
    predict_from
        What from. From ``tokens``, values of these features that were measured are hidden first.
    alone
        Tell a vector of each modality alone too.
    batches
        Where the batch of each cell stands, for a model that has batch labels.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    modalities: Mapping[str, str] = field(default_factory=dict)
    predict: tuple[str, ...] = ()
    predict_from: PredictFrom = "embedding"
    alone: bool = False
    batches: IntegrateOptions = field(default_factory=IntegrateOptions)

    def __post_init__(self) -> None:
        if self.predict_from not in get_args(PredictFrom):
            raise OptionError(f"predict_from is {self.predict_from!r}; expected embedding or tokens.")
        if not all(isinstance(word, str) and word for pair in self.modalities.items() for word in pair):
            raise OptionError('modalities should read like {"RNA": "rna", "Protein": "protein_counts"}.')
        twice = sorted({name for name in self.modalities.values() if list(self.modalities.values()).count(name) > 1})
        if twice:
            raise OptionError(f"modalities takes {', '.join(twice)} of the cells twice; expected one for each.")
