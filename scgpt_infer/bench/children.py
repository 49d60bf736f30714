"""Measurements in processes of their own: an order in, its answer out, and nothing left running.

A process that dies, whatever of, is an answer with a reason: the other combinations go on.
"""

import json
import signal
import subprocess
import sys
from typing import Any

from scgpt_runtime.errors import ProviderError

__all__ = ["ask"]


def ask(order: dict[str, Any]) -> dict[str, Any]:
    """Have an order answered by `scgpt_infer.bench.worker` in a fresh process.

    Raises
    ------
    ProviderError
        The order cannot be carried out here; the message is one line.
    """
    command = [sys.executable, "-m", "scgpt_infer.bench.worker"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = child.communicate(json.dumps(order))
    finally:  # an interrupt must not leave it at work
        child.kill()
        child.wait()
    if child.returncode != 0:
        raise ProviderError(_ended(child.returncode, err))
    found: dict[str, Any] = json.loads(out.splitlines()[-1])  # libraries may have printed before
    if "error" in found:
        raise ProviderError(found["error"])
    return found


def _ended(code: int, err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    if code < 0:
        hint = "; memory may have run out" if -code == signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}"
    return f"its process failed: {lines[-1] if lines else f'exit code {code}'}"
