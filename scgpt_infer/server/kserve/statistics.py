"""The statistics extension of the Open Inference Protocol: what this server counts in, ``model_stats`` out.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from scgpt_infer.server.kserve.metadata import VERSION

__all__ = ["statistics"]

_STAGES = {"queue": "queue", "tokenise": "compute_input", "infer": "compute_infer", "write": "compute_output"}
"""Our stages to the protocol's; ``read``, which it has no name for, counts for success alone."""

_BILLION = 1e9


def statistics(exposition: bytes, models: Sequence[str]) -> dict[str, Any]:
    """What models have answered since the server started.

    Parameters
    ----------
    exposition
        Text of ``/metrics``.
    models
        Names of the models to tell of.

    Returns
    -------
    dict
        ``model_stats``, as the extension has it. ``batch_stats`` is empty: batches are filled by tokens, so that their
        sizes are many; ``/metrics`` has them as a histogram.
    """
    counted = _counted(text_string_to_metric_families(exposition.decode()))
    return {"model_stats": [_of_model(name, counted[name]) for name in models]}


def _counted(families: Iterable[Any]) -> defaultdict[str, defaultdict[str, float]]:
    """By model, the samples that are of use, by their name and stage."""
    counted: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for family in families:
        for sample in family.samples:
            model = sample.labels.get("model")
            if model is not None and "le" not in sample.labels:
                counted[model][f"{sample.name}:{sample.labels.get('stage', '')}"] += sample.value
    return counted


def _of_model(name: str, counted: defaultdict[str, float]) -> dict[str, Any]:
    def stage(*stages: str) -> dict[str, int]:  # counts are those of the first: infer is of batches, write of requests
        seconds = sum(counted[f"scgpt_infer_stage_seconds_sum:{stage}"] for stage in stages)
        return {
            "count": int(counted[f"scgpt_infer_stage_seconds_count:{stages[0]}"]),
            "ns": round(seconds * _BILLION),
        }

    return {
        "name": name,
        "version": VERSION,
        "last_inference": round(1000 * counted["scgpt_infer_last_batch_timestamp_seconds:"]),
        "inference_count": int(counted["scgpt_infer_batch_cells_sum:"]),
        "execution_count": int(counted["scgpt_infer_batch_cells_count:"]),
        "inference_stats": {
            "success": stage("write", "read", "queue", "tokenise", "infer"),
            "fail": {"count": int(counted["scgpt_infer_refused_total:"]), "ns": 0},
            **{theirs: stage(ours) for ours, theirs in _STAGES.items()},
        },
        "batch_stats": [],
    }
