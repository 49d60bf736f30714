"""Parts of one job, wherever they were made, become its output: `merge`.

It opens no model, and cells only for what an output keeps of them.
"""

from scgpt_infer.merging.job import merge
from scgpt_infer.merging.options import Merged, MergeOptions

__all__ = ["MergeOptions", "Merged", "merge"]
