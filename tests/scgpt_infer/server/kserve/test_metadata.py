"""What the protocol tells of models and their repository, and what it counts."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import tritonclient
from google.protobuf import json_format

from scgpt_infer.server.desk import Status
from scgpt_infer.server.kserve import metadata, repository
from scgpt_infer.server.kserve.statistics import statistics
from scgpt_infer.server.refusals import BadRequest, Forbidden
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import demo_here

HERE = demo_here()
OPEN = Settings(models=(ModelAsked("demo", "demo"),), model_control=True)


def _model_config() -> ModuleType:
    """Triton's own ModelConfig, without the rest of its gRPC client."""
    path = Path(tritonclient.__path__[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_is_one_that_triton_knows() -> None:
    told = metadata.configuration(HERE)
    config = json_format.ParseDict(told, _model_config().ModelConfig())
    assert [(found.name, list(found.dims)) for found in config.input] == [
        ("genes", [-1]),
        ("values", [-1]),
        ("indptr", [-1]),
    ]
    assert config.parameters["vector_id"].string_value == HERE.vector_id


def test_configuration_and_metadata_tell_the_same_tensors() -> None:
    config, model = metadata.configuration(HERE), metadata.model(HERE)
    for ours, theirs in (("inputs", "input"), ("outputs", "output")):
        assert [(tensor["name"], tensor["shape"]) for tensor in model[ours]] == [
            (tensor["name"], tensor["dims"]) for tensor in config[theirs]
        ]


def test_a_model_without_types_has_no_output_of_them() -> None:
    told = metadata.model(replace(HERE, abilities=("embed",)))
    assert [tensor["name"] for tensor in told["outputs"]] == ["embedding", "error"]


def test_an_index_tells_what_answers_what_does_not_and_what_may_be_loaded(tmp_path: Path) -> None:
    for name in ("loaded", "lies there", "no bundle"):
        (tmp_path / name).mkdir()
    for name in ("loaded", "lies there"):
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "zipped.zip").touch()
    (tmp_path / ".loading").mkdir()
    (tmp_path / ".loading" / "manifest.json").touch()
    settings = replace(OPEN, models_dir=tmp_path)
    statuses = [Status("loaded", 1, "ready"), Status("broken", 1, "failed", "its weights are cut off")]
    assert repository.index(statuses, settings, only_ready=False) == [
        {"name": "loaded", "version": "1", "state": "READY", "reason": ""},
        {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "its weights are cut off"},
        {"name": "demo", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "lies there", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "zipped", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert [found["name"] for found in repository.index(statuses, settings, only_ready=True)] == ["loaded"]


def test_a_folder_of_models_that_is_gone_has_none(tmp_path: Path) -> None:
    assert repository.loadable(tmp_path / "gone") == []


@pytest.mark.parametrize(("body", "only"), [(b"", False), (b"{}", False), (b'{"ready": true}', True)])
def test_an_index_request(body: bytes, only: bool) -> None:
    assert repository.only_ready(body) is only


@pytest.mark.parametrize("body", [b"[]", b'{"ready": 1}', b"{", b"\xff"])
def test_no_index_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match="model repository extension"):
        repository.only_ready(body)


def test_models_change_only_where_the_operator_allows_it() -> None:
    closed = replace(OPEN, model_control=False)
    for check in (repository.check_load, repository.check_unload):
        check(OPEN, b"")
        check(OPEN, b'{"parameters": {}}')
        with pytest.raises(Forbidden, match="--model-control"):
            check(closed, b"")


def test_a_model_is_loaded_as_it_is() -> None:
    """A configuration or files of the client's own would make another model of it."""
    with pytest.raises(BadRequest, match="parameter 'config'; a model is loaded as its bundle is"):
        repository.check_load(OPEN, json.dumps({"parameters": {"config": "{}"}}).encode())


COUNTED = b"""
scgpt_infer_stage_seconds_count{model="m",stage="queue"} 4.0
scgpt_infer_stage_seconds_sum{model="m",stage="queue"} 0.5
scgpt_infer_stage_seconds_count{model="m",stage="infer"} 4.0
scgpt_infer_stage_seconds_sum{model="m",stage="infer"} 2.0
scgpt_infer_stage_seconds_count{model="m",stage="write"} 5.0
scgpt_infer_stage_seconds_sum{model="m",stage="write"} 0.25
scgpt_infer_stage_seconds_count{model="other",stage="infer"} 9.0
scgpt_infer_batch_cells_count{model="m"} 3.0
scgpt_infer_batch_cells_sum{model="m"} 70.0
scgpt_infer_last_batch_timestamp_seconds{model="m"} 1700000000.25
scgpt_infer_refused_total{model="m",code="queue_full"} 2.0
scgpt_infer_refused_total{model="m",code="expired"} 1.0
"""


def test_statistics_are_those_of_the_metrics() -> None:
    (told,) = statistics(COUNTED, ["m"])["model_stats"]
    assert (told["name"], told["inference_count"], told["execution_count"]) == ("m", 70, 3)
    assert told["last_inference"] == 1_700_000_000_250
    counts = told["inference_stats"]
    assert counts["success"] == {"count": 5, "ns": 2_750_000_000}
    assert counts["queue"] == {"count": 4, "ns": 500_000_000}
    assert counts["compute_infer"] == {"count": 4, "ns": 2_000_000_000}
    assert counts["fail"]["count"] == 3


def test_a_model_that_was_never_asked_has_counts_of_zero() -> None:
    (told,) = statistics(b"", ["m"])["model_stats"]
    assert told["inference_stats"]["success"] == {"count": 0, "ns": 0}
    assert told["last_inference"] == 0
