"""NVIDIA's public client against a whole server: the vectors and types are those of the library."""

import shutil

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import scgpt_infer
from scgpt_infer import demo
from tests.scgpt_infer.server.conftest import serving

N_CELLS = 20


@pytest.fixture(scope="module")
def cells() -> ad.AnnData:
    return ad.read_h5ad(demo.CELLS)[:N_CELLS].copy()


def tensors(cells: ad.AnnData, binary: bool = True) -> list[triton.InferInput]:
    rows = sp.csr_matrix(cells.X)
    given = {
        "genes": ("BYTES", np.asarray(cells.var_names, object)[rows.indices]),
        "values": ("FP32", rows.data.astype(np.float32)),
        "indptr": ("INT64", rows.indptr.astype(np.int64)),
    }
    return [
        triton.InferInput(name, list(data.shape), datatype).set_data_from_numpy(data, binary_data=binary)
        for name, (datatype, data) in given.items()
    ]


@pytest.fixture
def client(running):
    with triton.InferenceServerClient(running.url.removeprefix("http://")) as client:
        yield client


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "JSON"])
def test_vectors_and_types_are_those_of_the_library(client, cells, binary):
    names = ("embedding", "label", "confidence")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    told = client.infer("demo", tensors(cells, binary), outputs=outputs)
    expected = scgpt_infer.annotate(cells, model="demo", options=scgpt_infer.EmbedOptions(provider="cpu"))
    labels = [label.decode() if binary else label for label in told.as_numpy("label")]
    np.testing.assert_allclose(told.as_numpy("embedding"), expected.obsm["X_scGPT_demo"], atol=1e-5)
    assert labels == list(expected.obs["scgpt_label"])
    np.testing.assert_allclose(told.as_numpy("confidence"), expected.obs["scgpt_confidence"], atol=1e-4)


def test_the_server_counts_what_this_client_asks(client, cells):
    def counted():
        (told,) = client.get_inference_statistics("demo")["model_stats"]
        return told["inference_count"], told["inference_stats"]["success"]["count"]

    before = counted()
    client.infer("demo", tensors(cells), outputs=[triton.InferRequestedOutput("embedding")])
    after = counted()
    assert after[0] == before[0] + N_CELLS
    assert after[1] == before[1] + 1


def test_a_model_that_is_loaded_anew_answers_all_the_while(client, cells):
    client.load_model("demo")
    assert client.is_model_ready("demo")
    told = client.infer("demo", tensors(cells)).as_numpy("embedding")
    assert np.isfinite(told).all()


def test_models_come_and_go_by_name(tmp_path, cells):
    (tmp_path / "models").mkdir()
    shutil.copytree(demo.BUNDLE, tmp_path / "models" / "second")

    def states():
        return {found["name"]: found["state"] for found in client.get_model_repository_index()}

    def generation(name):
        return next(found["generation"] for found in server.get("/v1/models")["models"] if found["name"] == name)

    with (
        serving(tmp_path, models_dir=tmp_path / "models", model_control=True) as server,
        triton.InferenceServerClient(server.url.removeprefix("http://")) as client,
    ):
        assert states() == {"demo": "READY", "second": "UNAVAILABLE"}
        client.load_model("second")
        vectors = client.infer("second", tensors(cells)).as_numpy("embedding")
        first = generation("second")
        client.unload_model("second")
        client.unload_model("demo")
        assert states() == {"demo": "UNAVAILABLE", "second": "UNAVAILABLE"}
        with pytest.raises(InferenceServerException, match="second"):
            client.infer("second", tensors(cells))
        client.load_model("second")
        assert generation("second") > first  # what front ends kept of the first is not taken for the second's
        client.load_model("demo")
        assert states() == {"demo": "READY", "second": "READY"}
        np.testing.assert_allclose(client.infer("demo", tensors(cells)).as_numpy("embedding"), vectors, atol=1e-5)
        with pytest.raises(InferenceServerException, match="no such bundle"):
            client.load_model("third")
