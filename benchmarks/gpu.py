"""Everything that needs an NVIDIA GPU, in one run on a machine that may have no network.

    python benchmarks/gpu.py                                 all stages that fit into ten minutes
    python benchmarks/gpu.py --stages parity,peers           some of them; --list names them all
    python benchmarks/gpu.py --rehearse                      all of it on the processor, small: does it run?
    python benchmarks/gpu.py --keep RESULTS.json [...]       join results of one GPU into benchmarks/results

Each stage is a process with a time limit of its own; what a stage has found when it ends, dies or is stopped is kept.
Writes gpu.GPU.json, .md and .log and gpu.profile.csv to --output; progress goes to standard error, a short table to
standard output. The project need not be installed. Exits with 3 when a stage did not come to its end, or parity fails.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started by path, Python looks beside this file only
    sys.path.insert(0, str(ROOT))

from benchmarks.gpu_visit import plan, record, table  # noqa: E402  # the path comes first
from benchmarks.gpu_visit.part import Ask  # noqa: E402  # the path comes first
from benchmarks.gpu_visit.visit import Visit  # noqa: E402  # the path comes first

__all__ = ["keep", "main"]


def main(arguments: list[str]) -> int:
    """Visit, or keep what visits have found."""
    given = _parser().parse_args(arguments)
    if given.list:
        for stage in sorted(plan.STAGES, key=lambda stage: stage.rank):
            print(f"{stage.name:10} {stage.what} ({stage.expected:.0f} s)")
        return 0
    if given.keep:
        print(keep(given.keep, given.results))
        return 0
    names = given.stages.split(",") if given.stages else [stage.name for stage in plan.STAGES]
    stages = plan.named(names)
    budget = given.budget or (plan.REHEARSAL_BUDGET if given.rehearse else plan.BUDGET)
    output, cache = given.output.resolve(), given.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    ask = Ask(cache, output, given.rehearse, given.small or given.rehearse, given.seed, ends=0.0)
    found = Visit(stages, ask, budget).run()
    print(table.short(found), flush=True)
    return 0 if complete(found) else 3


def complete(found: record.Record) -> bool:
    """Whether every stage came to its end, and every graph that ran is within its limits."""
    stages = found["stages"]
    parity = stages.get("parity", {}).get("found", {})
    rows = [row for name in ("ways", "contract") for row in parity.get(name, [])]
    came = all(stage["status"] == "done" and "useless" not in stage.get("found", {}) for stage in stages.values())
    return came and all(row["ok"] for row in rows if "ok" in row)


def keep(paths: list[Path], results: Path) -> str:
    """Join results, write them where the project keeps them, and give their table.

    Parameters
    ----------
    paths
        JSON documents of one kind of GPU; the profile beside the last one that has one is kept too.
    results
        Folder.
    """
    joined = record.join(record.load(path) for path in paths)
    results.mkdir(parents=True, exist_ok=True)
    name = record.slug(joined)
    record.save(joined, results)
    text = table.markdown(joined)
    (results / f"gpu.{name}.md").write_text(text, encoding="utf-8")
    for path in paths:
        if (profile := path.with_name("gpu.profile.csv")).exists():
            shutil.copyfile(profile, results / f"gpu.{name}.profile.csv")
    return text


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--stages", help="names separated by commas; default: all")
    made.add_argument("--list", action="store_true", help="name the stages, the most important first, and end")
    made.add_argument("--budget", type=float, help=f"seconds in all (default {plan.BUDGET:.0f})")
    made.add_argument(
        "--output",
        type=Path,
        default=Path(os.environ.get("OUT") or ROOT / "build" / "gpu" / "out"),
        help="folder of the results (default: $OUT, or build/gpu/out)",
    )
    made.add_argument(
        "--cache", type=Path, default=ROOT / "build" / "gpu", help="folder that later runs find again: the bundle"
    )
    made.add_argument("--seed", type=int, default=0, help="of weights and cells")
    made.add_argument("--small", action="store_true", help="a tiny model")
    made.add_argument("--rehearse", action="store_true", help="on the processor, small: no GPU figure")
    made.add_argument("--keep", type=Path, nargs="+", help="results to join into --results")
    made.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where --keep puts them")
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
