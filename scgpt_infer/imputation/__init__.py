"""Values of genes that were hidden or never seen: the command ``impute``.

`impute` gives them in memory, `impute_json` as a document, `impute_file` writes them.
"""

from scgpt_infer.imputation.asked import ImputeOptions
from scgpt_infer.imputation.jobs import impute, impute_file, impute_json
from scgpt_infer.imputation.scale import edges_of, to_scale
from scgpt_infer.imputation.summary import Imputed

__all__ = ["ImputeOptions", "Imputed", "edges_of", "impute", "impute_file", "impute_json", "to_scale"]
