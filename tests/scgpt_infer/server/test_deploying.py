"""docs/serving: what the image, Compose and Kubernetes files name is what the program has. None of them is run here."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement

from scgpt_infer.cli import commands
from scgpt_infer.cli.serve import PREFIX
from scgpt_infer.server import metrics

REPOSITORY = Path(__file__).parents[3]
SERVING = REPOSITORY / "docs/serving"
KUBERNETES = SERVING / "kubernetes"
TARGETS = ("cpu", "gpu")
OVERLAYS = ("base", "gpu", "jobs")


def options_of(name: str, words: list[str]) -> dict[str, Any]:
    """What a command makes of words, by click's own parser; nothing runs."""
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    return command.make_context(name, list(words)).params


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch) -> None:
    for name in ("MODEL", "HOST", "PORT"):
        monkeypatch.delenv(f"{PREFIX}_{name}", raising=False)


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of the Dockerfile by stage, those of the stages that it is made from included."""
    text = re.sub(r"^#.*\n", "", (SERVING / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            origin, _, name = rest.partition(" AS ")
            found[name] = list(found.get(origin, []))
        elif name:
            found[name].append((word, " ".join(rest.split())))
    return found


def environment(target: str) -> dict[str, str]:
    told = [rest for word, rest in stages()[target] if word == "ENV"]
    return dict(pair.split("=", 1) for rest in told for pair in rest.split())


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_runs_as_nobody_and_starts_the_server_itself(target):
    told = dict(stages()[target])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", told["USER"])  # a number: Kubernetes cannot see that a name is not root
    assert yaml.safe_load(told["ENTRYPOINT"]) == ["scgpt-infer"]
    name, *words = yaml.safe_load(told["CMD"])
    assert options_of(name, words)["model"] == ("demo",)
    port = environment(target)[f"{PREFIX}_PORT"]
    assert told["EXPOSE"] == port
    assert f"http://127.0.0.1:{port}/readyz" in told["HEALTHCHECK"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_is_warmed_behind_the_last_change_of_its_files_times(target):
    runs = [rest for word, rest in stages()[target] if word == "RUN"]
    install = next(place for place, rest in enumerate(runs) if "pip install" in rest)
    steps = [runs[install].index(step) for step in ("pip install", "touch --no-dereference", "compileall")]
    assert steps == sorted(steps)
    assert "python -m scgpt_infer.server.warming" in runs[install + 1]
    assert environment(target)["NUMBA_CACHE_DIR"] in runs[install + 1]


def test_what_the_image_is_made_of_is_there():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    arguments = dict(rest.split("=") for word, rest in stages()["gpu"] if word == "ARG")
    assert {"cpu", arguments["CUDA"], "gpu-cu12", *arguments["EXTRAS"].split(",")} <= {*extras}
    let_in = {line[1:] for line in (SERVING / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {name for word, rest in stages()["wheel"] if word == "COPY" for name in rest.split()[:-1]}
    assert copied | {"constraints.txt"} == let_in
    assert all((REPOSITORY / name).exists() for name in let_in)
    package = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert {path.split("/")[0] for path in package["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} <= let_in
    assert {package["project"]["readme"], *package["project"]["license-files"]} <= let_in


@pytest.mark.parametrize("extra", ["cpu", "gpu", "gpu-cu12"])
def test_pinned_versions_are_some_that_the_package_takes(extra):
    package = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    target = "cpu" if extra == "cpu" else "gpu"
    (install,) = (rest for word, rest in stages()[target] if word == "RUN" and "pip install" in rest)
    left_out = re.search(r"grep -v '(.*?)' /constraints.txt", install)
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if left_out is None or not re.search(left_out[1], line)]
    pinned = dict(line.split("==") for line in kept if re.fullmatch(r"[\w.-]+==[\w.]+", line))
    asked = map(Requirement, [*package["dependencies"], *package["optional-dependencies"][extra]])
    there = {one.name: pinned[one.name] in one.specifier for one in asked if one.name in pinned}
    assert there["numpy"]
    assert all(there.values()), there


def settings_named(text: str) -> set[str]:
    return set(re.findall(rf"{PREFIX}_([A-Z_]+)", text))


def test_every_setting_in_an_environment_is_one_of_the_server():
    command = commands.get_command(click.Context(commands), "serve")
    known = {parameter.name.upper() for parameter in command.params if parameter.name}
    files = [path for path in SERVING.rglob("*") if path.is_file() and path.suffix in (".yaml", "")]
    named = {name for path in files for name in settings_named(path.read_text())}
    assert {"HOST", "PORT", "MODEL", "JOBS_DIR"} <= named <= known


def test_compose_locks_the_server_in_and_gives_it_time_to_end():
    told = yaml.safe_load((SERVING / "compose.yaml").read_text())
    for target in TARGETS:
        service = told["services"][target]
        assert service["build"]["target"] == target
        assert (SERVING / service["build"]["context"] / service["build"]["dockerfile"]).samefile(SERVING / "Dockerfile")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == dict(stages()[target])["USER"]
        port = environment(target)[f"{PREFIX}_PORT"]
        assert [words.rsplit(":", 1)[1] for words in service["ports"]] == [port]
        seconds = {name: float(service["environment"][f"{PREFIX}_{name}_SECONDS"]) for name in ("DRAIN", "GRACE")}
        assert int(service["stop_grace_period"].removesuffix("s")) > sum(seconds.values())
        # what the server writes to is a volume or a tmpfs
        mounted = {words.split(":")[-1] for words in service["volumes"] if not words.endswith(":ro")}
        assert {environment(target)["XDG_CACHE_HOME"], service["environment"][f"{PREFIX}_JOBS_DIR"]} == mounted
        assert service["tmpfs"][0].startswith(f"{environment(target)['HOME']}:")


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


@pytest.fixture(params=OVERLAYS)
def deployment(request) -> dict[str, Any]:
    """The Deployment as kustomize makes it; that of the base as it is where there is no kubectl."""
    if shutil.which("kubectl"):
        words = ["kubectl", "kustomize", str(KUBERNETES / request.param)]
        text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found = yaml.safe_load_all(text)
    elif request.param == "base":
        found = documents(KUBERNETES / "base/serve.yaml")
    else:
        pytest.skip("kubectl is not here")
    return next(document for document in found if document["kind"] == "Deployment")


def test_a_pod_fetches_checks_and_serves_the_same_bundle(deployment):
    spec = deployment["spec"]["template"]["spec"]
    fetch, check = spec["initContainers"]
    (serve,) = spec["containers"]
    assert (fetch["name"], check["name"], serve["name"]) == ("fetch", "check", "serve")  # they run in this order
    bundle = fetch["args"][fetch["args"].index("--output") + 1]
    checked = options_of(check["args"][0], check["args"][1:])
    assert checked["bundle"] == bundle
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", checked["expect"])
    served = options_of(serve["args"][0], serve["args"][1:])
    assert [words.partition("=")[2] for words in served["model"]] == [bundle]
    assert str(served["keys_file"]).startswith("/keys/")
    assert check["image"] == serve["image"]


def test_a_pod_has_no_rights_and_writes_to_volumes_alone(deployment):
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in (*spec["initContainers"], *spec["containers"]):
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    written = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"] if not mount.get("readOnly")}
    assert {environment("cpu")[name] for name in ("HOME", "XDG_CACHE_HOME")} <= written


def test_a_pod_is_given_longer_to_end_than_it_takes(deployment):
    spec = deployment["spec"]["template"]["spec"]
    told = options_of("serve", spec["containers"][0]["args"][1:])
    assert spec["terminationGracePeriodSeconds"] > told["drain_seconds"] + told["grace_seconds"]
    readiness = spec["containers"][0]["readinessProbe"]
    assert told["drain_seconds"] >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_probes_services_and_scrapers_ask_where_the_server_answers(deployment):
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    port = environment("cpu")[f"{PREFIX}_PORT"]
    assert [(one["name"], str(one["containerPort"])) for one in container["ports"]] == [("http", port)]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"/livez", "/readyz"}
    assert template["metadata"]["annotations"]["prometheus.io/port"] == port
    labels = template["metadata"]["labels"]
    for document in (*documents(KUBERNETES / "base/serve.yaml"), *documents(KUBERNETES / "base/disruption.yaml")):
        selector = document["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()


def test_it_scales_by_a_metric_that_the_server_tells():
    metrics.queued("of the manifests", 5, 1)
    text = metrics.exposition()[0].decode()
    (keda,), (hpa,) = (documents(KUBERNETES / f"scale-{kind}.yaml") for kind in ("keda", "hpa"))
    query = keda["spec"]["triggers"][0]["metadata"]["query"]
    (metric,) = hpa["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert re.search(rf"^{name}{{", text, re.MULTILINE)
    assert name in query
    for found in (keda, hpa):
        assert found["spec"]["scaleTargetRef"]["name"] == "scgpt-infer"


def test_each_file_is_linked_from_the_page_and_each_link_leads_somewhere():
    text = (SERVING / "deploying.md").read_text()
    linked = {SERVING / path for path in re.findall(r"\]\(([^)#:]+)\)", text)}
    assert all(path.exists() for path in linked)
    named = ("Dockerfile", "Dockerfile.dockerignore", "compose.yaml")
    manifests = {path for path in KUBERNETES.rglob("*") if path.is_file()}
    assert {SERVING / name for name in named} | manifests <= linked
