"""A model repository of the demo, and what stands in for Triton: its settings, and ONNX Runtime."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient
from google.protobuf import text_format

from scgpt_infer.models import resolve
from scgpt_infer.triton import TritonOptions, Written, write_repository


def loaded(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model_config():
    """A function that reads a config.pbtxt by NVIDIA's own definition of it, which refuses what it does not know."""
    # The module alone: its package wants gRPC.
    pb2 = loaded(Path(tritonclient.__file__).parent / "grpc/model_config_pb2.py", "model_config_pb2")

    def read(folder: Path) -> Any:
        return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), pb2.ModelConfig())

    return read


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Written:
    return write_repository(resolve("demo"), tmp_path_factory.mktemp("triton") / "models", TritonOptions())


class Stand:
    """Triton as a client sees it: requests are judged by config.pbtxt and answered by ONNX Runtime."""

    def __init__(self, repository: Path, read: Any) -> None:
        self.configs = {folder.name: read(folder) for folder in repository.iterdir()}
        self.repository = repository
        self.requests: list[tuple[str, dict[str, tuple[int, ...]]]] = []

    def get_model_config(self, name: str) -> dict[str, Any]:
        told = self.configs[name].parameters
        parameters = {key: {"string_value": told[key].string_value} for key in told}
        return {"parameters": parameters, "max_batch_size": self.configs[name].max_batch_size}

    def get_model_metadata(self, name: str) -> dict[str, Any]:
        config = self.configs[name]
        return {
            end: [
                {"name": one.name, "datatype": _wire(one.data_type), "shape": [-1, *one.dims]}
                for one in getattr(config, end.removesuffix("s"))
            ]
            for end in ("inputs", "outputs")
        }

    def infer(self, name: str, inputs: list[Any], outputs: list[Any]) -> "Answer":
        arrays = {}
        for given in inputs:
            array = np.frombuffer(given._get_binary_data(), _dtype(given.datatype())).reshape(given.shape())
            arrays[given.name()] = array
        self.requests.append((name, {key: array.shape for key, array in arrays.items()}))
        return Answer(self.run(name, arrays))

    def run(self, name: str, arrays: dict[str, Any]) -> dict[str, Any]:
        config = self.configs[name]
        self._check(config, arrays)
        if config.platform == "ensemble":
            known = dict(arrays)
            for step in config.ensemble_scheduling.step:
                told = self.run(step.model_name, {key: known[value] for key, value in step.input_map.items()})
                known |= {value: told[key] for key, value in step.output_map.items()}
            return {one.name: known[one.name] for one in config.output}
        for one in config.input:
            if one.HasField("reshape"):
                arrays = arrays | {one.name: arrays[one.name].reshape(len(arrays[one.name]), *one.reshape.shape)}
        path = self.repository / name / "1" / "model.onnx" / "model.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return dict(zip((one.name for one in session.get_outputs()), session.run(None, arrays), strict=True))

    def _check(self, config: Any, arrays: dict[str, Any]) -> None:
        """What Triton refuses: other names, types or shapes than the settings tell, or too large a batch."""
        assert {*arrays} == {one.name for one in config.input}
        for one in config.input:
            array = arrays[one.name]
            assert array.dtype == _dtype(_wire(one.data_type))
            assert 1 <= array.shape[0] <= config.max_batch_size
            fits = [want in (-1, size) for want, size in zip(one.dims, array.shape[1:], strict=True)]
            assert all(fits), (one.name, array.shape)


class Answer:
    def __init__(self, arrays: dict[str, Any]) -> None:
        self.arrays = arrays

    def as_numpy(self, name: str) -> Any:
        return self.arrays[name]


_NUMBERS = {2: "UINT8", 3: "UINT16", 8: "INT32", 11: "FP32"}
"""Of the enumeration DataType in model_config.proto, the word of the protocol."""


def _wire(number: int) -> str:
    return _NUMBERS[number]


def _dtype(word: str) -> np.dtype:
    return np.dtype({"UINT8": "u1", "UINT16": "<u2", "INT32": "<i4", "FP32": "<f4"}[word])


@pytest.fixture
def stand(model_config):
    return lambda repository: Stand(repository, model_config)
