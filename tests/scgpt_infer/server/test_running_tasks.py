"""The other tasks, asked of a running server: its bytes are those of the same call in this process."""

import json
import urllib.error
import urllib.request

import pytest

from scgpt_infer import demo
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.calls import answer
from scgpt_runtime.bundle import Bundle

CELLS = [
    {"cell": "a", "genes": {"LYZ": 3, "CD3D": 1.5, "NKG7": 2, "FTL": 7}, "obs": {"kind": "x"}},
    {"genes": ["MS4A1", "CD79A", "LYZ"], "values": [2, 1, 1], "obs": {"kind": "y"}},
]
BODIES = {
    "impute": {"cells": CELLS, "genes": ["CD4", "LYZ"]},
    "integrate": {"cells": CELLS},
    "genes": {"cells": CELLS, "by": "kind"},
    "grn": {"cells": CELLS, "targets": ["LYZ"], "only": ["CD3D", "FTL"]},
}


def posted(url: str, body: dict) -> tuple[bytes, str]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answered:
        return answered.read(), answered.headers["X-Vector-Id"]


@pytest.mark.parametrize("task", BODIES)
def test_a_task_of_the_bundle_is_answered(running, task):
    found, vector_id = posted(f"{running.url}/v1/{task}", BODIES[task])
    assert found == answer(Bundle.open(demo.BUNDLE), task, BODIES[task], EmbedOptions(provider="cpu"))
    assert json.loads(found)["run"]["vector_id"] == vector_id


def test_what_the_model_does_not_know_is_the_askers_fault(running):
    with pytest.raises(urllib.error.HTTPError) as refused:
        posted(f"{running.url}/v1/impute", {"cells": CELLS, "genes": ["NOGENE"]})
    assert refused.value.code == 422
    assert "NOGENE" in json.load(refused.value)["error"]
