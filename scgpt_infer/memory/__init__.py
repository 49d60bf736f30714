"""A job within the memory that it is granted: `Budget` plans it, `Watch` minds it while it runs.

What counts is the PSS of a process and of all that it has started: memory of its own, and its share of what it has in
common with others. Sizes of pieces follow from it, results never do. `opening` puts both around a job.
"""

from scgpt_infer.memory.budget import Budget
from scgpt_infer.memory.measure import held_bytes
from scgpt_infer.memory.watch import Watch

__all__ = ["Budget", "Watch", "held_bytes"]
