"""``scgpt-infer triton``: what stands in the repository, by NVIDIA's definition of it and by ONNX Runtime."""

import json
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import onnxruntime
import pytest

import toy_bundle
from scgpt_infer import cli
from scgpt_infer.models import resolve
from scgpt_infer.triton import TritonOptions, write_repository
from scgpt_infer.triton.config import is_batched
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleError, OptionError, OutputError, ProviderError

# Numbers of enumerations in model_config.proto
UINT8, UINT16, INT32, FP32 = 2, 3, 8, 11
AUTO, GPU, CPU = 0, 1, 2
REJECT = 0


def test_the_settings_say_what_the_graph_takes_and_gives(written, model_config):
    config = model_config(written.models["demo"])
    assert (config.name, config.backend, config.max_batch_size) == ("demo", "onnxruntime", 16)
    told = [(one.name, one.data_type, [*one.dims], one.HasField("reshape")) for one in config.input]
    assert told == [("ids", UINT16, [-1], False), ("values", UINT8, [-1], False), ("lengths", INT32, [1], True)]
    assert [(one.name, one.data_type, [*one.dims]) for one in config.output] == [("cell", FP32, [64])]
    assert config.version_policy.latest.num_versions == 1
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, AUTO)]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    policy = config.dynamic_batching.default_queue_policy
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds == 30_000_000  # requests can only ask for less
    assert config.parameters["vector_id"].string_value == resolve("demo").manifest.vector_ids["fp32"]


def test_each_graph_fits_the_settings_beside_it(written, model_config):
    for name in ("demo", "demo_classify"):
        folder, config = written.models[name], model_config(written.models[name])
        session = onnxruntime.InferenceSession(
            str(folder / "1/model.onnx/model.onnx"), providers=["CPUExecutionProvider"]
        )
        for told, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [one.name for one in told] == [one.name for one in there]
            for one, tensor in zip(told, there, strict=True):
                shape = [*one.reshape.shape] if one.HasField("reshape") else [*one.dims]
                assert [size if isinstance(size, int) else -1 for size in tensor.shape[1:]] == shape


def test_the_warm_up_is_of_real_cells_whose_files_have_the_size_that_is_told(written, model_config):
    folder, config = written.models["demo"], model_config(written.models["demo"])
    assert [(sample.name, sample.batch_size) for sample in config.model_warmup] == [
        ("one cell", 1),
        ("a full batch", 16),
    ]
    golden = resolve("demo").golden()
    for sample in config.model_warmup:
        inputs = sample.inputs
        assert {*inputs} == {"ids", "values", "lengths"}
        for key, width in (("ids", 2), ("values", 1), ("lengths", 4)):
            held = (folder / "warmup" / inputs[key].input_data_file).stat().st_size
            assert held == width * int(np.prod(inputs[key].dims))
        assert np.fromfile(folder / "warmup/lengths", "<i4").tolist() == [golden.lengths.max()]


def test_a_model_brings_its_own_weights_and_no_others(written):
    whole = (resolve("demo").path / "graphs/weights.float32.bin").stat().st_size
    held = {name: sum(path.stat().st_size for path in folder.rglob("*.bin")) for name, folder in written.models.items()}
    assert held["demo"] < whole
    assert held["demo_classify"] < whole / 20
    assert held["demo_types"] == 0


def test_the_ensemble_gives_vectors_and_types_whose_names_are_there(written, model_config):
    folder = written.models["demo_types"]
    config = model_config(folder)
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["demo", "demo_classify"]
    assert [one.name for one in config.output] == ["cell", "logits"]
    labels = (folder / config.output[1].label_filename).read_text().splitlines()
    assert labels == [*resolve("demo").manifest.labels]
    assert len(labels) == config.output[1].dims[0]
    assert any((folder / "1").iterdir())  # stores of objects keep no empty folders


def test_options_reach_the_settings(tmp_path, model_config):
    options = TritonOptions(
        "human", max_batch=4, max_delay_us=0, max_queue=9, queue_seconds=2.5, instances=2, kind="cpu", threads=3
    )
    write_repository(resolve("demo"), tmp_path / "models", options)
    config = model_config(tmp_path / "models/human")
    assert config.max_batch_size == 4
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 9
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds == 2_500_000
    assert [(group.count, group.kind) for group in config.instance_group] == [(2, CPU)]
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert [sample.batch_size for sample in config.model_warmup] == [1]
    assert not config.optimization.execution_accelerators.gpu_execution_accelerator


def test_tensorrt_is_given_int32_and_the_shapes_that_it_may_meet(tmp_path, model_config):
    options = TritonOptions(precision="fp16", tensorrt=True, tensorrt_cache="/cache", kind="gpu", max_batch=8)
    write_repository(resolve("demo"), tmp_path / "models", options)
    config = model_config(tmp_path / "models/demo")
    assert {one.data_type for one in config.input} == {INT32}
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    told = accelerator.parameters
    assert told["precision_mode"] == "FP16"
    assert told["trt_profile_min_shapes"] == "ids:1x1,values:1x1,lengths:1"
    assert told["trt_profile_max_shapes"] == "ids:8x608,values:8x608,lengths:8"  # 600, as clients pad it
    assert told["trt_engine_cache_path"] == "/cache"
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, GPU)]


def test_fp32_on_gpus_is_not_rounded_to_tf32(written, model_config):
    (accelerator,) = model_config(written.models["demo"]).optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})


def test_every_graph_of_a_bundle_can_be_written(tmp_path, model_config):
    bundle = resolve("demo")
    tasks = tuple(dict.fromkeys(graph.task for graph in bundle.manifest.graphs))
    written = write_repository(bundle, tmp_path / "models", TritonOptions(tasks=tasks))
    for task in tasks:
        graph = bundle.graph(task, "fp32")
        folder = written.models["demo" if task == "embed" else f"demo_{task}"]
        config = model_config(folder)
        assert (config.max_batch_size > 0) == is_batched([*graph.inputs, *graph.outputs])
        onnxruntime.InferenceSession(str(folder / "1/model.onnx/model.onnx"), providers=["CPUExecutionProvider"])


def test_a_model_that_asks_for_a_batch_label_says_so(tmp_path, model_config):
    toy_bundle.write(tmp_path / "toy", labelled=True)
    written = write_repository(Bundle.open(tmp_path / "toy"), tmp_path / "models", TritonOptions())
    config = model_config(written.models["toy"])
    assert [(one.name, [*one.dims]) for one in config.input][-1] == ("batch", [1])
    assert not config.model_warmup
    assert written.worst < 1e-6


def test_what_is_there_is_kept_and_nothing_partial_appears(tmp_path, toy_model):
    models = tmp_path / "models"
    bundle = Bundle.open(toy_model)
    first = write_repository(bundle, models, TritonOptions())
    before = (first.models["toy"] / "config.pbtxt").read_bytes()
    with pytest.raises(OutputError, match=r"toy is there already.*--name"):
        write_repository(bundle, models, TritonOptions())
    write_repository(bundle, models, TritonOptions(name="other"))
    assert (first.models["toy"] / "config.pbtxt").read_bytes() == before
    with pytest.raises(BundleError, match="holds no graph for classify"):
        write_repository(bundle, models, TritonOptions(name="third", tasks=("embed", "classify")))
    assert {path.name for path in models.iterdir()} == {"toy", "other"}
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


@pytest.mark.parametrize("kind", ["read-only", "mount"])
def test_a_folder_that_cannot_be_written_is_told(tmp_path, toy_model, monkeypatch, kind):
    def refuse(*words, **named):
        raise PermissionError(13, "Permission denied")

    if kind == "mount":
        monkeypatch.setattr(Path, "is_mount", lambda path: True)
    else:
        monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match="Permission denied" if kind == "read-only" else "is a mount of its own"):
        write_repository(Bundle.open(toy_model), tmp_path / "models", TritonOptions())


def test_the_same_bundle_gives_the_same_bytes(tmp_path, toy_model):
    for name in "ab":
        write_repository(Bundle.open(toy_model), tmp_path / name, TritonOptions())
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_what_cannot_be_is_refused(toy_model, tmp_path):
    with pytest.raises(OptionError, match="fp32 or fp16"):
        TritonOptions(precision="int8", tensorrt=True)
    with pytest.raises(OptionError, match="for GPUs"):
        TritonOptions(tensorrt=True, kind="cpu")
    with pytest.raises(OptionError, match="no name for a model"):
        TritonOptions(name="../up")
    with pytest.raises(OptionError, match="needs --tensorrt"):
        TritonOptions(tensorrt_cache="/cache")
    with pytest.raises(ProviderError, match="no fp16 graph"):
        write_repository(Bundle.open(toy_model), tmp_path / "models", TritonOptions(precision="fp16"))


def test_the_command_tells_where_to_read_on(toy_model, tmp_path, capsys):
    models = tmp_path / "models"
    assert cli.run(["triton", str(toy_model), "-o", str(models)]) == 0
    assert f"{models / 'toy' / 'README.md'}" in capsys.readouterr().out
    words = ["triton", str(toy_model), "-o", str(models), "--name", "two", "--quiet", "--json"]
    assert cli.run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"] == {"two": str(models / "two")}
    assert told["worst"] < 1e-6
    assert cli.run(words) == 2
    assert "two is there already" in capsys.readouterr().err


def test_the_command_and_the_options_have_the_same_defaults():
    command = cli.commands.get_command(click.Context(cli.commands), "triton")
    given = command.make_context("triton", ["toy", "-o", "models"]).params
    for field in fields(TritonOptions):
        assert given[field.name] == field.default, field.name


def test_the_readme_names_each_model_with_what_it_takes(written):
    text = (written.models["demo"] / "README.md").read_text()
    for name in written.models:
        assert f"| `{name}` |" in text
    assert written.vector_id in text
    assert "`ids` uint16 (cells, tokens)" in text
