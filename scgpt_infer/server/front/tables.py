"""The gene tables of the models that answer: `Tables`, each made when it is first asked for.

It knows no request.
"""

from scgpt_infer.server.desk import Here
from scgpt_infer.server.genes import GeneTable
from scgpt_runtime.vocab import GeneMode

__all__ = ["Tables"]


class Tables:
    """Gene tables by model; genes are matched in the way that a model's run says."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[int, GeneTable]] = {}

    def of(self, here: Here) -> GeneTable:
        """The table of a model as it is now; that of a former generation is let go of."""
        made = self._made.get(here.name)
        if made is None or made[0] != here.generation:
            mode: GeneMode = "alias" if here.run.get("genes") == "alias" else "exact"
            made = self._made[here.name] = here.generation, GeneTable.of(here.vocabulary, mode)
        return made[1]
