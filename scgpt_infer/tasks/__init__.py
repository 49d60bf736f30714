"""Tasks: what becomes of the model's answers. One short file each, behind `TASKS` from name to function."""

from collections.abc import Callable

from scgpt_infer.tasks.embed import embedding
from scgpt_infer.writers.sink import Part
from scgpt_runtime.cells import Result

__all__ = ["TASKS"]

TASKS: dict[str, Callable[[Result], Part]] = {"embed": embedding}
