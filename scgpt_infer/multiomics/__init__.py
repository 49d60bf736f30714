"""Cells of several modalities: the command ``multiomic``.

`multiomic` embeds them in memory and predicts values of features, `multiomic_json` tells both as a document,
`multiomic_file` writes them.
"""

from scgpt_infer.multiomics.jobs import Multiomic, multiomic, multiomic_file, multiomic_json
from scgpt_infer.multiomics.options import MultiomicOptions

__all__ = ["Multiomic", "MultiomicOptions", "multiomic", "multiomic_file", "multiomic_json"]
