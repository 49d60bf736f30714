"""scgpt-infer through its public API: a file in, a file out.

``python -m benchmarks.peers.ours --bundle BUNDLE ...``; the driver calls it.
"""

import sys
from pathlib import Path

from benchmarks.peers.marks import Marks
from benchmarks.peers.side import parser

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Embed a file."""
    options = parser(__doc__)
    options.add_argument("--bundle", type=Path, required=True)
    options.add_argument("--provider", default="auto")
    options.add_argument("--precision", default="auto")
    given = options.parse_args(arguments)
    marks = Marks(given.started)
    from scgpt_infer import EmbedOptions, Model

    done = 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        if now > done:
            marks.answered(now - done)
            done = now

    asked = EmbedOptions(provider=given.provider, precision=given.precision)
    with Model.open(given.bundle, asked) as model:
        model.embed_file(given.cells, given.output, progress)
        choice = model.engine.choice
        marks.facts |= {"runs": model.engine.provider, "precision": choice.precision, "why": choice.why}
    marks.write(given.report)


if __name__ == "__main__":
    main(sys.argv[1:])
