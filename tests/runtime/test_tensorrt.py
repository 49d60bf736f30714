import ctypes
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest

from scgpt_runtime.batching import BATCH_TOKENS
from scgpt_runtime.engine_cache import EnginePlace
from scgpt_runtime.errors import InternalError, ProviderError
from scgpt_runtime.gpus import Gpu
from scgpt_runtime.manifest import TensorSpec
from scgpt_runtime.tensorrt import Bucket, bucket_for, library_version, machine_facts, provider_options

INPUTS = (
    TensorSpec("ids", "int32", ("cells", "tokens")),
    TensorSpec("values", "int32", ("cells", "tokens")),
    TensorSpec("lengths", "int32", ("cells",)),
)
GPU = Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 80 << 30, 79 << 30, 50 << 20, 132, "GPU-1")


def buckets(longest):
    """All buckets of cells of up to so many tokens, shortest first."""
    found = [bucket_for(1, longest)]
    while found[-1].longest < longest:
        found.append(bucket_for(found[-1].longest + 1, longest))
    return found


def test_every_length_has_one_bucket_and_the_last_ends_where_cells_end():
    assert [(found.shortest, found.longest) for found in buckets(1200)] == [
        (1, 256),
        (257, 512),
        (513, 768),
        (769, 1216),
    ]
    for length in range(1, 1217):
        found = bucket_for(length, 1200)
        assert found.shortest <= length <= found.longest
        assert found in buckets(1200)


@pytest.mark.parametrize("longest", [2, 24, 256, 257, 768, 1024, 1536, 3000])
def test_buckets_leave_no_gap_whatever_the_longest_cell(longest):
    found = buckets(longest)
    assert found[0].shortest == 1
    assert found[-2].longest < longest <= found[-1].longest < longest + 32 if len(found) > 1 else True
    assert all(right.shortest == left.longest + 1 for left, right in itertools.pairwise(found))


def test_a_cell_longer_than_expected_has_a_bucket_too():
    found = bucket_for(1300, 1200)
    assert found.shortest <= 1300 <= found.longest


def test_shapes_stay_within_twice_the_budget_and_hold_a_full_batch():
    budget = BATCH_TOKENS["tensorrt"]
    for found in buckets(4000):
        assert 1 <= found.usual <= found.cells
        assert found.cells * found.longest <= 2 * budget
        assert found.usual * found.longest <= budget
    assert bucket_for(100_000, 100_000).cells == 1


def test_profiles_name_every_input_with_its_least_usual_and_largest_shape():
    told = provider_options(0, "fp32", INPUTS, Bucket(257, 512, 63, 32), None)
    assert told["trt_profile_min_shapes"] == "ids:1x257,values:1x257,lengths:1"
    assert told["trt_profile_opt_shapes"] == "ids:32x512,values:32x512,lengths:32"
    assert told["trt_profile_max_shapes"] == "ids:63x512,values:63x512,lengths:63"


def test_an_axis_that_no_profile_knows_is_our_fault():
    with pytest.raises(InternalError, match="genes"):
        provider_options(0, "fp32", (TensorSpec("ids", "int32", ("genes",)),), Bucket(1, 2, 1, 1), None)


def test_fp16_is_asked_for_and_its_norms_stay_fp32():
    for precision, said in (("fp16", "True"), ("fp32", "False")):
        told = provider_options(0, precision, INPUTS, bucket_for(5, 1200), None)
        assert told["trt_fp16_enable"] == told["trt_layer_norm_fp32_fallback"] == said


def test_caches_are_on_where_there_is_a_place_for_them(tmp_path):
    place = EnginePlace(tmp_path / "e", tmp_path / "t", {})
    told = provider_options(3, "fp16", INPUTS, bucket_for(5, 1200), place)
    assert told["device_id"] == "3"
    assert told["trt_engine_cache_enable"] == told["trt_timing_cache_enable"] == "True"
    assert told["trt_engine_cache_path"] == str(tmp_path / "e")
    assert told["trt_timing_cache_path"] == str(tmp_path / "t")
    told = provider_options(3, "fp16", INPUTS, bucket_for(5, 1200), None)
    assert told["trt_engine_cache_enable"] == told["trt_timing_cache_enable"] == "False"
    assert not any(name.endswith("_path") for name in told)


def test_all_options_are_text_and_none_reads_an_engine_from_a_model(tmp_path):
    told = provider_options(0, "fp16", INPUTS, bucket_for(5, 1200), EnginePlace(tmp_path, tmp_path, {}))
    assert all(isinstance(value, str) for value in told.values())
    assert not any("ep_context" in name or "cuda_graph" in name or "decryption" in name for name in told)


def test_an_engine_depends_on_gpu_and_versions_but_not_on_what_changes_by_the_hour():
    first = machine_facts(GPU, "1.31.1", "10.9.0")
    assert machine_facts(replace(GPU, index=1, free=1, uuid="GPU-2"), "1.31.1", "10.9.0") == first
    for change in ({"name": "A100"}, {"capability": (8, 0)}, {"memory": 1}, {"processors": 7}):
        assert machine_facts(replace(GPU, **change), "1.31.1", "10.9.0") != first
    assert machine_facts(GPU, "1.26.0", "10.9.0") != first
    assert machine_facts(GPU, "1.31.1", "10.10.0") != first


def test_the_version_is_asked_from_the_library(monkeypatch):
    asked = []

    def load(name):
        asked.append(name)
        return SimpleNamespace(getInferLibVersion=lambda: 101303)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert library_version() == "10.13.3"
    assert asked == ["libnvinfer.so.10"]


def test_a_missing_tensorrt_is_named_with_what_to_do(monkeypatch):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(ProviderError, match=r"libnvinfer\.so\.10.*TensorRT 11.*--provider cuda"):
        library_version()
