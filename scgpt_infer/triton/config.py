"""``config.pbtxt`` of one graph, and of an ensemble of two.

In: what a graph takes and gives, as its record tells it, and how it shall be run. Out: messages for
`scgpt_infer.triton.pbtxt`. It opens no file. Fields as in Triton's ``model_config.proto``
(https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto).
"""

from collections.abc import Mapping, Sequence

from scgpt_infer.triton.options import TritonOptions
from scgpt_infer.triton.pbtxt import Word, entries
from scgpt_runtime.records import TensorSpec
from scgpt_runtime.tensorrt import Bucket, provider_options

__all__ = ["LABELS", "Message", "ensemble", "is_batched", "of_graph", "tensor"]

LABELS = "labels.txt"
"""File of class names, one a line, that Triton's classification extension reads."""

Message = dict[str, object]

_TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
}
_PROFILES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def is_batched(tensors: Sequence[TensorSpec]) -> bool:
    """Whether all tensors of a graph have the cells as their first axis, so that requests can be put together."""
    return all(spec.shape[:1] == ("cells",) for spec in tensors)


def of_graph(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: TritonOptions,
    facts: Mapping[str, str],
    longest: int,
    warmup: Sequence[Message] = (),
) -> Message:
    """Settings of a model that is one graph.

    Parameters
    ----------
    name
        Of the model: its folder's.
    inputs, outputs
        What the graph takes and gives.
    options
        How it is run.
    facts
        What clients may read of it, by name.
    longest
        Most tokens of a cell, for what is compiled.
    warmup
        Samples, as `scgpt_infer.triton.warmup` makes them.
    """
    batched = is_batched([*inputs, *outputs])
    settings = {"enable_mem_pattern": "0"}  # every batch has its own shape, and a pattern is kept for each
    if options.threads is not None:
        settings["intra_op_thread_count"] = str(options.threads)
    told: Message = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": options.max_batch if batched else 0,
        "input": [tensor(spec, batched=batched) for spec in inputs],
        "output": [
            tensor(spec, batched=batched, labels=LABELS if spec.name == "logits" and "labels" in facts else "")
            for spec in outputs
        ],
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": {"count": options.instances, "kind": Word(f"KIND_{options.kind.upper()}")},
        "parameters": entries({key: {"string_value": text} for key, text in {**settings, **facts}.items()}),
    }
    if batched:
        told["dynamic_batching"] = _batching(options)
    if accelerator := _accelerator(inputs, options, longest if batched else 0):
        told["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": accelerator}}
    return {**told, "model_warmup": list(warmup)}


def tensor(spec: TensorSpec, *, batched: bool, labels: str = "") -> Message:
    """An input or output. Triton counts no batch axis, and a tensor of that axis alone is one of (1,) to clients."""
    axes = spec.shape[1:] if batched else spec.shape
    told: Message = {
        "name": spec.name,
        "data_type": Word(_TYPES[spec.dtype]),
        "dims": [axis if isinstance(axis, int) else -1 for axis in axes] or [1],
    }
    if not axes:
        told["reshape"] = {}
    if labels:
        told["label_filename"] = labels
    return told


def _batching(options: TritonOptions) -> Message:
    # Without a default what a request asks for is not heeded (core, scheduler_utils.cc): it may only ask for less.
    policy: Message = {
        "timeout_action": Word("REJECT"),
        "default_timeout_microseconds": round(options.queue_seconds * 1e6),
        "allow_timeout_override": True,
    }
    if options.max_queue:
        policy["max_queue_size"] = options.max_queue
    return {"max_queue_delay_microseconds": options.max_delay_us, "default_queue_policy": policy}


def _accelerator(inputs: Sequence[TensorSpec], options: TritonOptions, longest: int) -> Message | None:
    """What GPUs compute with, where that is not the default."""
    if options.kind == "cpu":
        return None
    if not options.tensorrt:
        # TF32 would round the products of fp32: vectors would not be those that the id stands for.
        exact = options.precision == "fp32"
        return {"name": "cuda", "parameters": entries({"use_tf32": "0"})} if exact else None
    told = {"precision_mode": options.precision.upper()}
    if options.precision == "fp16":
        told["trt_layer_norm_fp32_fallback"] = "1"
    if longest:
        bucket = Bucket(1, longest, options.max_batch, options.max_batch)
        known = provider_options(0, options.precision, tuple(inputs), bucket, None)
        told |= {key: known[key] for key in _PROFILES}
    if options.tensorrt_cache:
        told |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": options.tensorrt_cache}
        told |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": options.tensorrt_cache}
    return {"name": "tensorrt", "parameters": entries(told)}


def ensemble(
    name: str,
    first: Message,
    second: Message,
    facts: Mapping[str, str],
) -> Message:
    """Settings of a model that asks one model, and another of its answers; what both answer is given.

    Parameters
    ----------
    name
        Of the ensemble.
    first, second
        Settings of the two, as `of_graph` makes them. All that the second takes is an output of the first.
    facts
        What clients may read of it, by name.
    """
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": first["max_batch_size"],
        "input": [_bare(found) for found in _list(first["input"])],
        "output": [_bare(found) for found in [*_list(first["output"]), *_list(second["output"])]],
        "version_policy": {"latest": {"num_versions": 1}},
        "ensemble_scheduling": {"step": [_step(first), _step(second)]},
        "parameters": entries({key: {"string_value": text} for key, text in facts.items()}),
    }


def _step(model: Message) -> Message:
    """A step whose tensors have the names that they have in the model."""
    maps = {
        field: entries({str(found["name"]): found["name"] for found in _list(model[end])})
        for field, end in (("input_map", "input"), ("output_map", "output"))
    }
    return {"model_name": model["name"], "model_version": -1, **maps}


def _bare(found: Message) -> Message:
    """A tensor as clients see it: shapes inside are the models' own business."""
    return {key: value for key, value in found.items() if key != "reshape"}


def _list(told: object) -> list[Message]:
    if not isinstance(told, list):
        raise TypeError("inputs and outputs are lists")
    return told
