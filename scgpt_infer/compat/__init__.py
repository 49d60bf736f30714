"""Drop-in replacements: `embed_data` of the original scGPT, `scGPT` and `scGPTConfig` of the wrapper on its model card.

Change the import of a script, and it runs here. docs/compat.md says what is different.
"""

from scgpt_infer.compat.cell_emb import embed_data
from scgpt_infer.compat.config import scGPTConfig
from scgpt_infer.compat.dataset import Dataset
from scgpt_infer.compat.model import scGPT
from scgpt_infer.compat.told import CompatWarning

__all__ = ["CompatWarning", "Dataset", "embed_data", "scGPT", "scGPTConfig"]
