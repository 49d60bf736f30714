"""Stage ``checks``: the tests that need a GPU, run where there is one.

found: summary (pytest's last line), outcomes {test: passed | failed | skipped | error}, code (pytest's exit code).
"""

import re
import subprocess
import sys
from importlib.util import find_spec

from benchmarks.gpu_visit.environment import ROOT
from benchmarks.gpu_visit.part import Ask, Part

__all__ = ["outcomes", "run"]

_LINE = re.compile(r"^(PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)\s+(\S.*)$")


def run(ask: Ask, part: Part) -> None:
    """Run them; a failure is a finding, not an end."""
    marked = "gpu" if not ask.rehearsal else "gpu and not slow"
    # Other versions of libraries may warn of what is coming, which is no finding here.
    options = ["-q", "-rA", "--tb=short", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    # A file that asks for a package which is not there is a line of the result, and the others run.
    options += ["--continue-on-collection-errors"]
    # Tests of the command line's own parts need packages that a machine without network may lack.
    places = ["tests/runtime", *(["tests/scgpt_infer/bench"] if find_spec("anndata") else [])]
    command = [sys.executable, "-m", "pytest", "-m", marked, *places, *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, flush=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    part.put("code", done.returncode)
    part.put("summary", lines[-1] if lines else "pytest said nothing")
    part.put("outcomes", outcomes(lines))
    part.say(part.found["summary"])


def outcomes(lines: list[str]) -> dict[str, str]:
    """Test, or place and reason of a skip, to what came of it, from the lines of ``pytest -rA``."""
    found = {}
    for line in lines:
        if matched := _LINE.match(line):
            found[matched[2]] = matched[1].lower()
    return found
