"""An evaluation for people: what it is of, the figures in one line each, then tables by type and by group."""

from collections.abc import Iterator, Sequence

from scgpt_infer.evaluation.figures import PRECISE, Confidences, Evaluation, GroupFigures, TypeFigures

__all__ = ["report"]

_NAME = 34


def report(found: Evaluation) -> str:
    """Several lines, without a newline at the end."""
    return "\n".join(_lines(found))


def _lines(found: Evaluation) -> Iterator[str]:
    left_out = f"; {found.without_truth:,} without a true label are left out" if found.without_truth else ""
    yield f"{found.judged:,} cells of {len(found.types)} types judged{left_out}"
    yield f"accuracy     {found.accuracy:.3f}"
    for name, mean in (("macro", found.macro), ("weighted", found.weighted)):
        yield f"{name:<12} precision {mean.precision:.3f}  recall {mean.recall:.3f}  F1 {mean.f1:.3f}"
    yield f"precise      {found.precise} of {len(found.types)} types exceed a precision of {PRECISE}"
    yield f"unknown      {found.unknown:.1%} of the cells; accuracy of the others {_figure(found.accuracy_of_known)}"
    if found.confidences is not None:
        yield from _confidences(found.confidences)
    yield from _unanswerable(found)
    yield from _types(found.types)
    for column in dict.fromkeys(group.column for group in found.groups):
        yield from _groups(column, [group for group in found.groups if group.column == column])


def _confidences(found: Confidences) -> Iterator[str]:
    means = f"{_figure(found.right)} where right, {_figure(found.wrong)} where wrong"
    yield f"confidence   {means}; expected calibration error {found.calibration_error:.3f}"
    for kept in found.kept:
        yield f"  {kept.confidence:.2f} or more: {kept.share:>6.1%} of the answers, accuracy {_figure(kept.accuracy)}"


def _unanswerable(found: Evaluation) -> Iterator[str]:
    if not found.unanswerable:
        return
    cells = sum(label.cells for label in found.unanswerable)
    yield ""
    yield f"No label of the model stands for these true labels (--names FILE.json says which do). Their {cells:,} cells"
    yield f"are not judged; were all of them counted as wrong, accuracy would be {found.accuracy_of_all:.3f}:"
    for label in found.unanswerable:
        most = f", most of the others {label.most}" if label.most else ""
        yield f"  {label.label}: {label.cells:,} cells, {label.unknown:.1%} told unknown{most}"


def _types(found: Sequence[TypeFigures]) -> Iterator[str]:
    strangers = any(one.strangers for one in found)
    yield ""
    yield f"{'type':<{_NAME}} precision  recall     F1    cells     told{'  strangers' if strangers else ''}"
    for one in found:
        figures = f"{one.precision:>9.3f}  {one.recall:>6.3f}  {one.f1:>5.3f}  {one.cells:>7,}  {one.told:>7,}"
        yield f"{_short(one.label)} {figures}{f'  {one.strangers:>9,}' if strangers else ''}"
    if strangers:
        yield "strangers: cells of types that the model cannot answer; precision does not count them"


def _groups(column: str, found: Sequence[GroupFigures]) -> Iterator[str]:
    yield ""
    yield f"{_short(column)}  accuracy  macro-F1  unknown    cells"
    for one in found:
        yield f"{_short(one.value)}  {one.accuracy:>8.3f}  {one.macro_f1:>8.3f}  {one.unknown:>7.1%}  {one.cells:>7,}"


def _short(name: str) -> str:
    """A name on one line, in the width of the tables."""
    line = " ".join(name.split())
    return f"{line if len(line) <= _NAME else line[: _NAME - 1] + '…':<{_NAME}}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
