"""Other tasks through both clients."""

import asyncio

import numpy as np
import pytest

from scgpt_runtime.errors import OptionError


def test_other_tasks_get_cells_and_columns(server, cells):
    own = cells[:3].copy()
    own.obs["donor"] = ["a", "b", "a"]
    with server.client() as client:
        assert client.call("integrate", own, obs="donor", batch="donor")["task"] == "integrate"
        client.call("genes", only=["CD3D"])
    (_, body), (_, alone) = server.desk.called
    assert body["batch"] == "donor"
    assert [cell["obs"]["donor"] for cell in body["cells"]] == ["a", "b", "a"]
    assert [cell["cell"] for cell in body["cells"]] == ["cell-0", "cell-1", "cell-2"]
    known = own.var["feature_name"].tolist()[:50]
    assert body["measured"] == known
    first = own.X[0]
    assert body["cells"][0]["values"] == first.data.tolist()
    assert set(body["cells"][0]["genes"]) <= {*known, "not a gene of the model"}
    assert alone["only"] == ["CD3D"]


@pytest.mark.parametrize("way", ["blocking", "awaited"])
def test_genes_are_an_option_of_a_task_and_columns_those_of_a_matrix(server, cells, way):
    async def run() -> None:
        async with server.awaited() as client:
            await client.call("impute", cells[:2].copy(), genes=["CD4", "IL2RA"])
            await client.call("impute", np.ones((1, 2)), ["CD3D", "LYZ"], genes=np.array(["CD4"]))

    if way == "awaited":
        asyncio.run(run())
    else:
        with server.client() as client:
            client.call("impute", cells[:2].copy(), genes=["CD4", "IL2RA"])
            client.call("impute", np.ones((1, 2)), columns=["CD3D", "LYZ"], genes=np.array(["CD4"]))
    (_, first), (_, second) = server.desk.called
    assert (first["genes"], len(first["cells"])) == (["CD4", "IL2RA"], 2)
    assert (second["genes"], second["measured"]) == (["CD4"], ["CD3D", "LYZ"])


@pytest.mark.parametrize("odd", [float("nan"), {1, 2}, object()])
def test_what_json_cannot_tell_is_refused(server, odd):
    with server.client() as client, pytest.raises(OptionError, match="genes was asked cannot be told as JSON"):
        client.call("genes", only=odd)
    assert server.seen == []
