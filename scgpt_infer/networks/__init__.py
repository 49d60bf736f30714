"""Networks of genes, from their embeddings or from attention: the command ``grn``.

`grn` gives a network in memory, `grn_file` writes it.
"""

from scgpt_infer.networks.asked import EmbeddingNetworkOptions
from scgpt_infer.networks.attention_asked import AttentionOptions
from scgpt_infer.networks.jobs import grn, grn_file
from scgpt_infer.networks.network import GeneNetwork, GroupScores
from scgpt_infer.networks.summary import NetworkSummary

__all__ = [
    "AttentionOptions",
    "EmbeddingNetworkOptions",
    "GeneNetwork",
    "GroupScores",
    "NetworkSummary",
    "grn",
    "grn_file",
]
