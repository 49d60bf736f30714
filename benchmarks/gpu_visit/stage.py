"""Run one stage: ``python -m benchmarks.gpu_visit.stage NAME ASK PART``. The driver calls it.

In: the name of a module beside this one, the driver's question, where the answer goes. It knows no stage.
"""

import importlib
import sys
from pathlib import Path

from benchmarks.gpu_visit.part import Ask, Part

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Run a stage in this process."""
    name, ask, part = arguments
    importlib.import_module(f"benchmarks.gpu_visit.{name}").run(Ask.load(Path(ask)), Part(Path(part)))


if __name__ == "__main__":
    main(sys.argv[1:])
