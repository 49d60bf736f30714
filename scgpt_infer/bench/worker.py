"""A process of its own for one measurement: an order as JSON on standard input, the answer as JSON on standard output.

``python -m scgpt_infer.bench.worker`` is started by `scgpt_infer.bench.children` and by nobody else.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from scgpt_runtime.errors import ScgptInferError

__all__ = ["answer", "main"]


def main() -> None:
    """Read the order, answer it; what cannot be measured here is an answer too."""
    order = json.load(sys.stdin)
    try:
        found = answer(order)
    except ScgptInferError as error:
        found = {"error": str(error)}
    print(json.dumps(found, allow_nan=False), flush=True)


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Do what an order says: ``choose``, ``peak`` or ``read``."""
    match order.pop("task"):
        case "choose":
            return _choose(order["bundle"], order["threads"])
        case "peak":
            from scgpt_infer.bench.peak import measure_peaks

            return measure_peaks(order["provider"], tuple(order["precisions"]), order["threads"], order["seconds"])
        case "read":
            from scgpt_infer.bench.combination import read
            from scgpt_infer.bench.reading import Order

            return asdict(read(Order(**{**order, "lengths": tuple(order["lengths"])})))
        case task:
            raise ValueError(f"no such task: {task}")


def _choose(bundle: str, threads: int | None) -> dict[str, Any]:
    """What ``auto`` takes here."""
    from scgpt_infer.models import open_bundle, usable_cache
    from scgpt_runtime.engine import Engine, EngineOptions

    cache = usable_cache()
    with Engine.open(open_bundle(bundle, cache), EngineOptions(threads=threads), cache_dir=cache) as engine:
        return {"provider": engine.choice.provider, "precision": engine.choice.precision, "why": engine.choice.why}


if __name__ == "__main__":
    main()
