"""docs/serving/http.md: what it shows is taken and answered, and its table of refusals is that of the server."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator

from scgpt_infer import schema
from scgpt_infer.server import refusals
from scgpt_infer.server.refusals import Refusal

PAGE = (Path(__file__).parents[3] / "docs/serving/http.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def post(url: str, body: str) -> Any:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_its_requests_are_answered(running: Any) -> None:
    document, request = blocks("json")
    Draft202012Validator(schema.schema()).validate(json.loads(document))
    told = post(f"{running.url}/v1/embed", request)
    assert [cell["error"] for cell in told["cells"]] == [None, None]
    (body,) = re.findall(r"-d '(.*?)'", blocks("bash")[0], re.DOTALL)
    (cell,) = post(f"{running.url}/v1/annotate", body)["cells"]
    assert cell["label"] == json.loads(document)["cells"][0]["label"]


def test_its_code_runs(running: Any) -> None:
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(code.replace("http://localhost:8080", running.url), "http.md", "exec"), names)
    np.testing.assert_allclose(np.linalg.norm(names["vectors"], axis=1), 1, atol=1e-5)


def test_its_refusals_are_those_of_the_server() -> None:
    told = {int(status): code for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, re.MULTILINE)}
    kinds = [kind for kind in vars(refusals).values() if isinstance(kind, type) and issubclass(kind, Refusal)]
    assert told.items() <= {(kind.status, kind.code) for kind in kinds}
    assert {400, 404, 413, 422, 429, 503, 504} <= told.keys()
