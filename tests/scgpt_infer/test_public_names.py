import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scgpt_infer


def test_the_public_names_are_sorted_few_and_all_there():
    assert scgpt_infer.__all__ == sorted(scgpt_infer.__all__)
    assert len(scgpt_infer.__all__) <= 15
    for name in scgpt_infer.__all__:
        assert getattr(scgpt_infer, name) is not None
        assert name in dir(scgpt_infer)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = scgpt_infer.nothing_like_it


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["numpy", "anndata", "h5py", "numba", "onnxruntime", "torch", "scgpt_export", "scgpt_infer.api"]
    script = f"import sys, scgpt_infer; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_importing_the_calls_needs_neither_torch_nor_the_exporter():
    script = "import sys, scgpt_infer.api; print([n for n in ('torch', 'onnx', 'scgpt_export') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_the_version_is_the_one_that_is_packaged():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert scgpt_infer.__version__ == tomllib.loads(pyproject.read_text())["project"]["version"]


def test_errors_are_one_tree():
    for name in scgpt_infer.errors.__all__:
        assert issubclass(getattr(scgpt_infer.errors, name), scgpt_infer.ScgptInferError)
