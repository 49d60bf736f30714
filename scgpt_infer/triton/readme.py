"""The README of a model in a repository: what stands there, how it is started, asked and changed.

In: facts. Out: Markdown. It opens nothing.
"""

from collections.abc import Mapping, Sequence

from scgpt_infer.triton.options import TritonOptions
from scgpt_runtime.batching import LENGTH_STEP
from scgpt_runtime.manifest import Manifest
from scgpt_runtime.records import TensorSpec

__all__ = ["readme"]

_TEXT = """# {name}

scGPT model `{model}` in {precision}, for the ONNX Runtime backend of
[Triton Inference Server](https://github.com/triton-inference-server/server). Written by `scgpt-infer triton`.
{proof}

Vectors have the id `{vector_id}`: they compare with those of other programs that tell the same.

## Models

| model | takes | gives |
|---|---|---|
{models}

`cells` and `tokens` are free axes. `lengths`, which has one axis in the graph, is (cells, 1) in requests. `cell` is the
vector before it is brought to unit length: divide it by its norm. Cells become tokens on the client's side, by the
rules in `{name}/tokens`: `client.py` beside this file does it, and is short.

## Start

```bash
docker run {gpus}--rm -p 8000:8000 -p 8001:8001 {environment}-v "$PWD:/models:ro" \\
    nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository /models
```

in the folder that holds `{name}/`. The graphs are at opset {opset}. A model is ready when the cells in its `warmup/`
have passed through it.

## Ask

```bash
pip install "scgpt-infer[cpu]" "tritonclient[http]"
python {name}/client.py cells.h5ad --url localhost:8000 -o vectors.npy
```

**Lengths.** Triton puts only requests of one shape into one batch. The client pads to multiples of {step} tokens, so
that shapes recur; padding has no part in the answer.

## Settings

In `config.pbtxt` of each model; change them there, or write the repository anew:

- `max_batch_size` {max_batch} cells: a batch of the longest holds {most:,} tokens. Out of memory: fewer.
- `dynamic_batching`: a request waits at most {delay:,} microseconds for others. One that has waited {seconds:g} s in
  all is refused, or less where it says so by `timeout` (microseconds){queue}.
- `instance_group`: {instances} of kind {kind}.
- `version_policy`: the newest version is served. A new one is a new numbered folder beside `1/`, for the same settings.
{accelerator}
"""

_CUDA = "- TF32 is off (`use_tf32`): it would round products of fp32, and vectors would be others than their id says."
_TENSORRT = """- TensorRT compiles the graph for cells of 1 to {longest} tokens when the model is loaded: that can take
  minutes{kept}. Its inputs are int32, since TensorRT knows no uint16.{tf32}
  `trt_profile_*` name the largest shape; a larger `max_batch_size` needs larger ones."""
_KEPT = "; what it compiled is kept in `{cache}` on the server, which must be writable"
_TF32 = " Start with `NVIDIA_TF32_OVERRIDE=0`, as above, or products of fp32 are rounded."


def readme(
    manifest: Manifest,
    name: str,
    models: Mapping[str, tuple[Sequence[TensorSpec], Sequence[TensorSpec]]],
    options: TritonOptions,
    facts: Mapping[str, str],
    worst: float | None,
) -> str:
    """The text.

    Parameters
    ----------
    manifest
        Of the bundle.
    name
        Of the first model.
    models
        Name to inputs and outputs.
    options
        How they were written.
    facts
        ``vector_id`` and ``opset``.
    worst
        1 - cosine of the worst golden cell; None where it was not measured.
    """
    longest = manifest.tokenizer.max_length
    exact = options.tensorrt and options.precision == "fp32"
    rows = [f"| `{model}` | {_named(takes)} | {_named(gives)} |" for model, (takes, gives) in models.items()]
    return (
        _TEXT.format(
            name=name,
            model=manifest.name,
            precision=options.precision,
            proof=_proof(worst),
            vector_id=facts["vector_id"],
            models="\n".join(rows),
            gpus="" if options.kind == "cpu" else "--gpus all ",
            environment="-e NVIDIA_TF32_OVERRIDE=0 " if exact else "",
            opset=facts["opset"],
            step=LENGTH_STEP["tensorrt"],
            max_batch=options.max_batch,
            most=options.max_batch * longest,
            delay=options.max_delay_us,
            seconds=options.queue_seconds,
            queue=f", and one more than {options.max_queue:,} that wait is, too" if options.max_queue else "",
            instances=options.instances,
            kind=options.kind,
            accelerator=_accelerator(options, longest, exact=exact),
        ).rstrip()
        + "\n"
    )


def _proof(worst: float | None) -> str:
    if worst is None:
        return "Its graph was not run where it was written."
    return f"The graph as written was run on golden cells: 1 - cosine to the fp32 reference at most {worst:.1e}."


def _accelerator(options: TritonOptions, longest: int, *, exact: bool) -> str:
    if options.tensorrt:
        kept = _KEPT.format(cache=options.tensorrt_cache) if options.tensorrt_cache else ", at each start"
        return _TENSORRT.format(longest=longest, kept=kept, tf32=_TF32 if exact else "")
    return _CUDA if options.precision == "fp32" and options.kind != "cpu" else ""


def _named(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"`{spec.name}` {spec.dtype} ({', '.join(map(str, spec.shape))})" for spec in tensors)
