"""What a server carries, and what it adds: full-size random weights, and a clock in the place of a model.

    python -m benchmarks.serving --bundle PATH --data CELLS.h5ad --json benchmarks/results/serving.json
    python -m benchmarks.serving --table --json benchmarks/results/serving.json [--into docs/serving/performance.md]

Cases of an earlier series that were not asked for stay in the record. --table measures nothing. Exits with 3 when a
figure misses a goal.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.serving.cases import CASES, Asked
from benchmarks.serving.tables import misses, page, tables
from benchmarks.study.machine import describe


def main(arguments: list[str]) -> int:
    """Measure and print, or print what was measured."""
    given = _parser().parse_args(arguments)
    record: dict[str, Any] = {"cases": {}}
    if given.json is not None and given.json.exists():
        record = json.loads(given.json.read_text(encoding="utf-8"))
    if not given.table:
        asked = Asked(given.bundle, given.data, given.cells, given.seconds, given.minutes, given.rounds)
        for name in given.cases:
            load = os.getloadavg()[0]
            record["machine"] = describe()
            record["cases"][name] = {"load": load, **CASES[name](asked)}
            print(tables({**record, "cases": {name: record["cases"][name]}}), flush=True)
            if given.json is not None:
                given.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    elif given.into is None:
        print(tables(record))
    else:
        given.into.write_text(page(given.into.read_text(encoding="utf-8"), tables(record)), encoding="utf-8")
    missed = misses(record["cases"])
    print("\n".join(missed))
    return 3 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--bundle", help="a model of full size")
    parser.add_argument("--data", help="an .h5ad of raw counts with gene names as its index")
    parser.add_argument("--cells", type=int, default=256, help="different cells that are asked about")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=10.0, help="at twice the load that can be carried")
    parser.add_argument("--rounds", type=int, default=2, help="of engine and server in turn")
    parser.add_argument("--json", type=Path, help="the record")
    parser.add_argument("--table", action="store_true", help="print what the record holds")
    parser.add_argument("--into", type=Path, help="a page that --table is put into")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
