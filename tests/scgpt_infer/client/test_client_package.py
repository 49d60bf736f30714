import subprocess
import sys

from scgpt_infer import client
from scgpt_runtime.errors import ScgptInferError


def test_its_public_names_are_sorted_and_all_there():
    assert client.__all__ == sorted(client.__all__)
    for name in client.__all__:
        assert getattr(client, name) is not None
        if name.endswith("Error"):
            assert issubclass(getattr(client, name), ScgptInferError)


def test_both_kinds_have_the_same_methods():
    blocking, awaited = ({name for name in dir(kind) if name[0] != "_"} for kind in (client.Client, client.AsyncClient))
    assert blocking == awaited


def test_it_opens_no_model_and_says_what_it_lacks():
    script = """
import sys
import scgpt_infer.client
heavy = [name for name in ("onnxruntime", "openvino", "torch", "starlette", "pyarrow") if name in sys.modules]
for name in [name for name in sys.modules if name.startswith(("scgpt_infer.client", "httpx"))]:
    del sys.modules[name]
sys.modules["httpx"] = None
try:
    import scgpt_infer.client
except Exception as error:
    print(heavy, type(error).__name__, error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.startswith("[] MissingDependencyError")
    assert 'pip install "scgpt-infer[client]"' in found
