"""Teaching: labelled cells become the classifier of a new bundle, on the vectors that its model makes anyway.

In: cells with a column of labels, and a model. Out: a sealed bundle with held-out figures. No GPU and no torch:
scikit-learn fits a logistic regression.
"""

from scgpt_infer.learning.learned import Learned
from scgpt_infer.learning.options import LearnOptions
from scgpt_infer.learning.teaching import learn

__all__ = ["LearnOptions", "Learned", "learn"]
