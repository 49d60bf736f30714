"""A bundle becomes a model repository of Triton Inference Server: `write_repository`, with `TritonOptions`.

In: an opened bundle. Out: folders with graphs, weights, settings and a client. It starts no server.
"""

from scgpt_infer.triton.options import TritonOptions
from scgpt_infer.triton.repository import Written, write_repository

__all__ = ["TritonOptions", "Written", "write_repository"]
