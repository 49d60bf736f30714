"""How the cells met the model, and what made the result: two sections of the report, told from the file's record.

In: `Findings`. Out: pieces of HTML. A record that lacks a fact, or is not there, leaves its line out.
"""

from collections.abc import Callable, Iterator, Mapping
from html import escape

from scgpt_infer.report.figures import percent
from scgpt_infer.report.findings import Findings

__all__ = ["origin", "quality"]

Fact = str | int | float
Record = Mapping[str, Fact]

_OURS = "annotation_"
_VALUES = {
    "integer": "whole numbers",
    "log1p": "log1p of normalised counts",
    "normalised": "normalised counts",
}


def quality(found: Findings) -> Iterator[str]:
    """Genes, counts, and cells without a vector."""
    yield "<h2>Match and quality</h2>"
    record = found.record
    facts = {
        "Genes": _told(record, ("n_matched", "n_genes", "match_fraction"), _genes),
        "Gene names": _told(record, ("gene_col", "genes"), _gene_names),
        "Counts": _told(record, ("counts", "values"), lambda counts, kind: f"{counts}, {_VALUES.get(kind, kind)}"),
        "Longest cell": _told(record, ("max_length",), "{:,} tokens; of more expressed genes, some are drawn".format),
        "Cells": f"{found.n_cells:,}, of which {found.n_embedded:,} have a vector under obsm[{found.key!r}]",
        "Without a vector": _without(found),
        "Without a label": _unlabelled(found),
    }
    yield _list(facts)
    before = record.get("n_cells", found.n_cells)
    if isinstance(before, int) and before != found.n_cells:
        yield (
            f'<p class="warn">The file was changed since: the run that made the embedding had {before:,} cells, it has '
            f"{found.n_cells:,}.</p>"
        )
    if "incomplete" in record:
        yield f'<p class="warn">The run did not end well: {escape(str(record["incomplete"]))}</p>'


def _genes(known: Fact, n_genes: Fact, share: Fact) -> str:
    others = int(n_genes) - int(known)
    return f"{known:,} of {n_genes:,} are known to the model ({percent(float(share))}), {others:,} are not"


def _gene_names(column: Fact, how: Fact) -> str:
    return f"from {column} of var; {'aliases too' if how == 'alias' else 'exact names'}"


def _without(found: Findings) -> str:
    missing = found.n_cells - found.n_embedded
    if not missing:
        return "none"
    share = percent(missing / found.n_cells)
    return f"{missing:,} ({share}). Their rows are NaN; why is told by the run that made them (--json)"


def _unlabelled(found: Findings) -> str | None:
    if found.label is None:
        return None
    missing = int((found.label.codes < 0).sum())
    return f"{missing:,}" if missing else "none"


def origin(found: Findings) -> Iterator[str]:
    """Model, hardware and settings; then the record as it stands."""
    record = found.record
    yield "<h2>Origin</h2>"
    if not record:
        yield (
            '<p class="note">The file does not tell what made the embedding: it has no uns["scgpt_infer"], as files '
            "that scgpt-infer wrote have.</p>"
        )
        return
    if record.get("key", found.key) != found.key:
        yield f'<p class="warn">This tells of obsm[{escape(repr(record["key"]))}], not of the embedding above.</p>'
    yield _list(
        {
            "Model": _told(record, ("model", "dim"), lambda model, dim: f"{model}, vectors {dim} wide"),
            "Vector id": _told(record, ("vector_id",), lambda told: f"{told}: vectors with this id can be compared"),
            "Weights": _told(record, ("weights_sha256",), lambda told: f"sha256 {told}"),
            "Ran on": _told(record, ("provider", "precision", "device"), _ran_on),
            "Labels from": _labels_from(record),
            "Settings": _told(record, ("seed", "ties", "sample"), "seed {}; ties: {}; long cells: {}".format),
            "Software": _told(record, ("version",), lambda version: f"scgpt-infer {version}"),
        }
    )
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in sorted(record.items())
    )
    yield (
        "<details><summary>The whole record, uns[&quot;scgpt_infer&quot;]</summary>"
        f'<table class="record"><tbody>{lines}</tbody></table></details>'
    )


def _labels_from(record: Record) -> str | None:
    """What knew the labels, and all that the record has of it."""
    facts = {name.removeprefix(_OURS): value for name, value in record.items() if name.startswith(_OURS)}
    if "from" not in facts:
        return None
    more = [f"{name.replace('_', ' ')} {facts[name]}" for name in sorted(facts) if name not in ("from", "prefix")]
    return "; ".join([str(facts["from"]), *more])


def _ran_on(provider: Fact, precision: Fact, device: Fact) -> str:
    return f"{provider}, {precision}; device {device}"


def _told(record: Record, names: tuple[str, ...], tell: Callable[..., object]) -> str | None:
    """A fact in words, or None where the record lacks it or has it of an unexpected kind."""
    if any(name not in record for name in names):
        return None
    try:
        return str(tell(*(record[name] for name in names)))
    except (TypeError, ValueError):
        return None


def _list(facts: Mapping[str, str | None]) -> str:
    lines = "".join(f"<dt>{name}</dt><dd>{escape(told)}</dd>" for name, told in facts.items() if told)
    return f"<dl>{lines}</dl>"
