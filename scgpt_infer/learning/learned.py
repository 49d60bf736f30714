"""What teaching came to: `Learned`, for people and as JSON. Plain values."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scgpt_runtime.manifest import Taught

if TYPE_CHECKING:
    from scgpt_infer.evaluation import Evaluation

__all__ = ["Learned"]


@dataclass(frozen=True, slots=True)
class Learned:
    """A taught classifier and what is known of it.

    Attributes
    ----------
    bundle, name
        Where it was sealed, and what it is called.
    base
        Name of the model whose vectors it takes.
    taught
        As the bundle tells it.
    held_out
        Its figures on held-out cells.
    tried
        C to held-out log loss.
    vectors_from
        Where the vectors came from, in words.
    notes
        What whoever uses it should know.
    wall_seconds
        From opening the cells to the sealed bundle.
    """

    bundle: str
    name: str
    base: str
    taught: Taught
    held_out: "Evaluation"
    tried: dict[float, float]
    vectors_from: str
    notes: tuple[str, ...]
    wall_seconds: float

    def to_json(self) -> str:
        """One JSON object."""
        told: dict[str, Any] = {
            "bundle": self.bundle,
            "name": self.name,
            "base": self.base,
            "taught": asdict(self.taught),
            "held_out": json.loads(self.held_out.to_json()),
            "tried": [{"c": c, "log_loss": loss} for c, loss in self.tried.items()],
            "vectors_from": self.vectors_from,
            "notes": self.notes,
            "wall_seconds": self.wall_seconds,
        }
        return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)

    def report(self) -> str:
        """Several lines, without a newline at the end."""
        taught = self.taught
        apart = f"no two share a {taught.by} ({taught.groups} in all)" if taught.by else "drawn at random"
        left = sum(taught.left_out.values())
        lines = [
            f"{self.bundle}: {len(taught.classes)} classes by {taught.cells:,} cells, labels from {taught.column}",
            f"  model      {self.name}; vectors of {self.base}, id {taught.vector_id}",
            f"  vectors    {self.vectors_from}",
            f"  left out   {left:,} cells",
            *(f"    {count:>9,}  {reason}" for reason, count in taught.left_out.items()),
            f"  C          {taught.regularisation:g}{self._chosen()}",
            "",
            f"On held-out cells, {taught.folds} folds, {apart}:",
            "",
            self.held_out.report(),
            *(f"\nnote: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def _chosen(self) -> str:
        if len(self.tried) < 2:
            return ""
        tried = ", ".join(f"{c:g}: {loss:.3f}" for c, loss in self.tried.items())
        return f", the one of least held-out log loss ({tried})"
