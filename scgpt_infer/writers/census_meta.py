"""What a contribution to the CELLxGENE Census tells of itself: `meta`, a text in YAML.

The facts of a run come in. The names of fields are those of the published layout of contributed embeddings; what a run
cannot know is left empty, with a word on what belongs there.
"""

import json
from datetime import UTC, datetime

from scgpt_infer.writers.sink import Record

__all__ = ["meta"]

_NAME, _TITLE, _DESCRIPTION = 128, 128, 2048
"""Most characters that a field may have."""


def meta(record: Record, n_embedded: int, dim: int) -> str:
    """The text of ``meta.yml``.

    Parameters
    ----------
    record
        Facts of the run; of cells of the Census ``census_version``, ``organism`` and ``measurement`` among them.
    n_embedded, dim
        Rows and columns of the embedding.
    """
    model = str(record.get("model", ""))
    contact = ("name", "email", "affiliation")
    lines = [
        "# Written by scgpt-infer. Fill in what is empty and has a remark.",
        _line("id", "", "the accession that CZI gives"),
        _line("embedding_name", f"scGPT {model}"[:_NAME]),
        _line("title", f"scGPT embeddings of cells, model {model}"[:_TITLE]),
        _line("description", _description(record)),
        "primary_contact:",
        *(f"  {_line(name, '', 'yours')}" for name in contact),
        "additional_contacts: []",
        _line("DOI", "", "may stay empty; no URL"),
        _line("additional_information", ""),
        _line("model_link", "", "may stay empty; https://..."),
        _line("data_type", "obs_embedding"),
        _told("census_version", record.get("census_version"), "release of the Census, such as 2025-01-30"),
        _told("experiment_name", record.get("organism"), "homo_sapiens or mus_musculus"),
        _line("measurement_name", record.get("measurement") or "RNA"),
        f"n_embeddings: {n_embedded}",
        f"n_features: {dim}",
        f"submission_date: {datetime.now(UTC).date().isoformat()}  # the day on which it is handed in",
    ]
    return "\n".join(lines) + "\n"


def _description(record: Record) -> str:
    told = [
        f"Cell embeddings of scGPT, model {record.get('model', '')}, made by scgpt-infer {record.get('version', '')}",
        f"in {record.get('precision', '')} precision",
        f"from {record.get('counts', '')} of at most {record.get('max_length', '')} genes of a cell",
    ]
    where = f" Cells where {record['where']}." if record.get("where") else ""
    return f"{', '.join(told)}. Id of comparable vectors: {record.get('vector_id', '')}.{where}"[:_DESCRIPTION]


def _told(name: str, value: object, remark: str) -> str:
    return _line(name, value or "", "" if value else remark)


def _line(name: str, value: object, remark: str = "") -> str:
    """A field; a text of JSON is one of YAML as well."""
    return f"{name}: {json.dumps(value, ensure_ascii=False)}" + (f"  # {remark}" if remark else "")
