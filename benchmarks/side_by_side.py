"""scgpt-infer beside the original scGPT and other ways to run it, on this machine, in one run.

    benchmarks/setup_original
    python -m benchmarks.side_by_side --data CELLS.h5ad                       random weights of the public size
    python -m benchmarks.side_by_side --data CELLS.h5ad --checkpoint DIR      real weights: proves parity as well
    python -m benchmarks.side_by_side --data CELLS.h5ad --quick               a few cells, one round: does it run?

Run it from the root of the checkout, with the extras [cpu,export] installed. Every side embeds the same cells from
``.h5ad`` to ``.h5ad`` in a process of its own, the sides in turn, for several rounds after a warm-up. Writes JSON, a
Markdown table and a chart. Exits with 3 when a figure that we aim at is missed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.study.comparison import Comparison
from benchmarks.study.plan import Plan
from benchmarks.study.sides import SIDES
from benchmarks.study.table import markdown, missed

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Compare, print the table, write the results."""
    given = _parser().parse_args(arguments)
    names = given.sides.split(",") if given.sides else [side.name for side in SIDES]
    unknown = sorted(set(names) - {side.name for side in SIDES})
    if unknown:
        raise SystemExit(f"Unknown sides {', '.join(unknown)}; there are {', '.join(side.name for side in SIDES)}.")
    plan = Plan(
        data=given.data,
        n=given.n or (16 if given.quick else 256),
        seed=given.seed,
        rounds=given.rounds or (1 if given.quick else 3),
        long=4 if given.quick else 48,
        sides=tuple(side for side in SIDES if side.name in names),
        work=given.work.resolve(),
        original=given.original.resolve(),
        checkpoint=given.checkpoint and given.checkpoint.resolve(),
        bundle=given.bundle and given.bundle.resolve(),
        lock=given.lock,
        resume=given.resume,
    )
    record = Comparison.prepare(plan, _say).run()
    text = markdown(record)
    print(text)
    given.results.mkdir(parents=True, exist_ok=True)
    name = f"{given.name or ('quick' if given.quick else 'side_by_side')}"
    record.save(given.results / f"{name}.json")
    (given.results / f"{name}.md").write_text(text, encoding="utf-8")
    from benchmarks.study.chart import svg

    (given.results / f"{name}.svg").write_text(svg(record), encoding="utf-8")
    found = [] if given.quick else missed(record)
    for line in found:
        _say(f"missed: {line}")
    return 3 if found else 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help=".h5ad of raw counts to draw cells from")
    made.add_argument("--n", type=int, help="cells to draw (default 256)")
    made.add_argument("--seed", type=int, default=0, help="seed of the draw (default 0)")
    made.add_argument("--rounds", type=int, help="times that each side runs (default 3)")
    made.add_argument("--sides", help="names separated by commas; default: all")
    made.add_argument("--checkpoint", type=Path, help="folder of a real checkpoint; default: random weights, made here")
    made.add_argument("--bundle", type=Path, help="its bundle, where it is exported already")
    made.add_argument(
        "--original", type=Path, default=Path("build/original"), help="folder that holds the package scgpt"
    )
    made.add_argument(
        "--work", type=Path, default=Path("build/side_by_side"), help="folder for what is made on the way"
    )
    made.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="folder for the results")
    made.add_argument("--name", help="name of the result files (default side_by_side)")
    made.add_argument("--lock", type=Path, help="a lock file to hold while a side runs, where others share the machine")
    made.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    made.add_argument("--quick", action="store_true", help="16 cells, one round")
    return made


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
