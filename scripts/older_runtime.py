"""What every graph of a bundle answers on the ONNX Runtime that is installed, and whether two of them agree.

    python scripts/older_runtime.py answer BUNDLE ANSWERS.npz
    python scripts/older_runtime.py compare BUNDLE CURRENT.npz OLDER.npz

check-older-runtime calls it with two versions on the path. Padded cells of unlike length are fed, so a version that
does not know of their lengths answers otherwise.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgpt_runtime.bundle import Bundle
from scgpt_runtime.manifest import GraphRecord
from scgpt_runtime.providers import onnxruntime

LIMITS = {"fp32": 1e-5, "fp16": 5e-3, "int8": 5e-2}
"""Largest relative difference of two versions; those of fp16 and int8 round otherwise where they fuse otherwise."""

CELLS = 6
NO_KERNEL, REFUSED, RAN = "no kernel", "refused", "ran"
ON_GPUS_ALONE = "cuda-packed"
RENAMED = (b"PackedMultiHeadAttention", b"PackedMultiHeadAttentioX")


def main() -> None:
    told, bundle, *files = sys.argv[1:]
    if told == "answer":
        answer(Bundle.open(Path(bundle)), Path(files[0]))
    else:
        raise SystemExit(compare(Bundle.open(Path(bundle)), *map(Path, files)))


def answer(bundle: Bundle, output: Path) -> None:
    """Write the answers of every graph that has kernels here, and the fate of every graph."""
    found: dict[str, NDArray[np.generic]] = {"version": np.array(onnxruntime().__version__)}
    known = inputs(bundle)
    for graph in records(bundle):
        fate, session = opened(bundle.file(graph.path).read_bytes(), bundle.file(graph.path).parent)
        if session is not None:
            feed = {spec.name: known[graph.dialect == "cuda-exact", spec.name] for spec in graph.inputs}
            if graph.task == "genes":  # genes come without cells
                feed["ids"] = feed["ids"].ravel()
            found[f"answer {graph.path}"] = session.run(None, feed)[0]
        found[f"fate {graph.path}"] = np.array(fate)
    packed = bundle.file(bundle.graph("embed", "fp16", ON_GPUS_ALONE).path)
    fate, _ = opened(packed.read_bytes().replace(*RENAMED), packed.parent)
    found["fate of an operator that nobody knows"] = np.array(fate)
    np.savez(output, **found)


def opened(graph: bytes, folder: Path) -> tuple[str, Any]:
    """How opening a graph ends, and the session: no kernel for a known operator is not the same as not understood."""
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return RAN, runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class of their own
        lacking = "NOT_IMPLEMENTED" in str(error)
        return NO_KERNEL if lacking else f"{REFUSED}: {str(error)[:200]}", None


def records(bundle: Bundle) -> list[GraphRecord]:
    """Every file once: heads of fp32 are listed as those of bf16 too."""
    found: dict[str, GraphRecord] = {}
    for graph in bundle.manifest.graphs:
        found.setdefault(graph.path, graph)
    return list(found.values())


def inputs(bundle: Bundle) -> dict[tuple[bool, str], NDArray[np.generic]]:
    """Arrays by whether all cells must have one length, and input name: the shortest golden cells, and a seed."""
    golden, settings = bundle.golden(), bundle.manifest.tokenizer
    lengths = golden.lengths[:CELLS].astype(np.int32)
    ids = np.full((CELLS, lengths.max()), settings.pad_id, golden.ids.dtype)
    values = np.full(ids.shape, settings.pad_code, golden.values.dtype)
    for cell, length in enumerate(lengths):
        inside = slice(golden.offsets[cell], golden.offsets[cell + 1])
        ids[cell, :length], values[cell, :length] = golden.ids[inside], golden.values[inside]
    random = np.random.default_rng(0)
    made = {
        "ids": ids,
        "values": values,
        "lengths": lengths,
        "cell": random.standard_normal((CELLS, bundle.manifest.dim)).astype(np.float32),
        "hidden": random.standard_normal((*ids.shape, bundle.manifest.dim)).astype(np.float32),
    }
    longest = np.argmax(lengths)
    return {(False, name): array for name, array in made.items()} | {
        (True, name): array[[longest]] for name, array in made.items()
    }


def compare(bundle: Bundle, current: Path, older: Path) -> int:
    """Print a table; 1 where the two versions do not agree, or a graph has another fate than it should."""
    now, then = np.load(current), np.load(older)
    print(f"{'graph':<36} {now['version']!s:>10} {then['version']!s:>10} {'difference':>12}")
    failed = 0
    for graph in records(bundle):
        fates = [str(found[f"fate {graph.path}"]) for found in (now, then)]
        lacking = graph.dialect == ON_GPUS_ALONE or graph.precision == "bf16"
        good = fates == [NO_KERNEL if lacking else RAN] * 2
        difference = ""
        if good and not lacking:
            pairs = [real(bundle, graph, found[f"answer {graph.path}"]) for found in (now, then)]
            relative = float(np.linalg.norm(pairs[1] - pairs[0]) / np.linalg.norm(pairs[0]))
            good = relative <= LIMITS[graph.precision]
            difference = f"{relative:.1e}"
        failed += not good
        verdict = "" if good else "  FAILED"
        print(f"{Path(graph.path).stem:<36} {fates[0]:>10} {fates[1]:>10} {difference:>12}{verdict}")
    for found in (now, then):
        fate = str(found["fate of an operator that nobody knows"])
        if not fate.startswith(REFUSED):  # then no graph above proves that its operators are known
            print(f"An unknown operator was not refused on {found['version']}, but ended in: {fate}")
            failed += 1
    print(f"{failed} of {len(records(bundle))} graphs failed" if failed else "All graphs load and agree.")
    return int(failed > 0)


def real(bundle: Bundle, graph: GraphRecord, answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answers without those at padding, which mean nothing."""
    if graph.task not in ("tokens", "expression") or graph.dialect == "cuda-exact":
        return answers
    lengths = bundle.golden().lengths[:CELLS]
    inside: NDArray[np.float32] = answers[np.arange(answers.shape[1]) < lengths[:, None]]
    return inside


if __name__ == "__main__":
    main()
