"""The description names every route with its methods and no other, and is OpenAPI that tools can read."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from scgpt_infer.server.front.app import app_of
from scgpt_infer.server.front.door import Door
from scgpt_infer.server.openapi import description
from scgpt_infer.server.settings import ModelAsked, Settings
from tests.scgpt_infer.server.fake_desk import FakeDesk

DEMO = (ModelAsked("demo", "demo"),)
_FILES_OF_THE_PAGE = "/page/"


def routes_of(settings: Settings) -> set[tuple[str, str]]:
    router = app_of(Door(FakeDesk(), settings))._app
    found = {
        (route.path, method)
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" and not route.path.startswith(_FILES_OF_THE_PAGE)
    }
    assert found
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_every_route_is_described_and_nothing_else(tmp_path: Path, whole: bool) -> None:
    settings = Settings(models=DEMO, jobs_dir=tmp_path / "jobs", ui=True) if whole else Settings(models=DEMO)
    told = description(settings)
    described = {(path, method.upper()) for path, operations in told["paths"].items() for method in operations}
    assert described == routes_of(settings)


def references_in(told: object) -> set[str]:
    if isinstance(told, dict):
        here = {told["$ref"]} if isinstance(told.get("$ref"), str) else set()
        return here.union(*map(references_in, told.values()))
    return set().union(*map(references_in, told)) if isinstance(told, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_one(tmp_path: Path) -> None:
    told = description(Settings(models=DEMO, jobs_dir=tmp_path, keys_file=tmp_path / "keys"))
    for reference in references_in(told):
        found = told
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
    for schema in told["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [told["operationId"] for path in told["paths"].values() for told in path.values()]
    assert len(names) == len({*names})


def test_keys_are_asked_for_where_the_server_asks_for_them(tmp_path: Path) -> None:
    told = description(Settings(models=DEMO, keys_file=tmp_path / "keys"))
    assert told["security"] == [{"bearer": []}, {"header": []}]
    assert told["paths"]["/livez"]["get"]["security"] == []
    assert "401" in told["paths"]["/v1/embed"]["post"]["responses"]
    assert "401" not in description(Settings(models=DEMO))["paths"]["/v1/embed"]["post"]["responses"]
