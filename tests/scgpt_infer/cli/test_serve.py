"""Settings of a server from flags, the environment and a file."""

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from scgpt_infer.cli import commands, serve
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.settings import ModelAsked, Settings
from scgpt_runtime.errors import OptionError

DIGEST = "ab" * 32


@pytest.fixture
def settings_of(monkeypatch):
    """Settings that a command line gives."""
    found = []
    monkeypatch.setattr(serve, "_serve", lambda settings: found.append(settings) or 0)

    def settings(*words):
        commands.main(["serve", *map(str, words)], standalone_mode=False)
        return found.pop()

    return settings


def file_of(folder: Path, text: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(text)
    return path


def test_without_words_all_is_as_the_settings_have_it(settings_of):
    assert settings_of("--model", "demo") == Settings(models=(ModelAsked("demo", "demo"),))


def test_every_field_is_an_option_and_every_option_a_field():
    named = {one.name for one in serve.command.params}
    of_settings = {one.name for one in fields(Settings)} - {"models", "options"}
    of_engine = named & {one.name for one in fields(EmbedOptions)}
    assert named == of_settings | of_engine | {"model", "expect", "config"}
    assert {"provider", "precision", "device", "threads", "batch_tokens", "max_length", "genes"} <= of_engine


def test_flag_comes_before_environment_before_file(settings_of, tmp_path, monkeypatch):
    path = file_of(tmp_path, 'model = ["demo"]\nport = 1\nmax-cells = 1\nmax_genes = 1\nui = true\njobs-dir = "jobs"\n')
    monkeypatch.setenv("SCGPT_INFER_SERVE_PORT", "2")
    monkeypatch.setenv("SCGPT_INFER_SERVE_MAX_CELLS", "2")
    found = settings_of("--config", path, "--port", 3)
    assert (found.port, found.max_cells, found.max_genes) == (3, 2, 1)
    assert (found.ui, found.jobs_dir) == (True, Path("jobs"))
    assert found.models == (ModelAsked("demo", "demo"),)


def test_the_file_itself_may_be_named_in_the_environment(settings_of, tmp_path, monkeypatch):
    monkeypatch.setenv("SCGPT_INFER_SERVE_CONFIG", str(file_of(tmp_path, "port = 1")))
    monkeypatch.setenv("SCGPT_INFER_SERVE_MODEL", "demo,human=/my bundles/a=b")
    found = settings_of()
    assert found.port == 1
    assert found.models == (ModelAsked("demo", "demo"), ModelAsked("human", "/my bundles/a=b"))


def test_the_engine_is_told_too(settings_of):
    found = settings_of("--model", "demo", "--provider", "cpu", "--max-length", 300, "--genes", "alias")
    assert found.options == EmbedOptions(provider="cpu", max_length=300, genes="alias")


@pytest.mark.parametrize("how", ["flag", "flags", "environment", "text", "list"])
def test_trusted_proxies_may_be_told_in_every_way(settings_of, how, tmp_path, monkeypatch):
    words = ["--model", "demo"]
    if how == "flag":
        words += ["--trusted-proxies", "10.0.0.0/8, ::1"]
    elif how == "flags":
        words += ["--trusted-proxies", "10.0.0.0/8", "--trusted-proxies", "::1"]
    elif how == "environment":
        monkeypatch.setenv("SCGPT_INFER_SERVE_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    else:
        told = '"10.0.0.0/8,::1"' if how == "text" else '["10.0.0.0/8", "::1"]'
        words += ["--config", file_of(tmp_path, f"trusted-proxies = {told}")]
    assert settings_of(*words).trusted_proxies == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(("told", "bytes_"), [("3MiB", 3 * 2**20), ("2GB", 2 * 10**9), ("500B", 500)])
def test_sizes_have_units(settings_of, told, bytes_):
    assert settings_of("--model", "demo", "--max-body-bytes", told).max_body_bytes == bytes_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot is no setting. Did you mean port"),
        ('port = "x"', "port: 'x' is not a valid"),
        ("port = true", "port is True; expected a text or a number"),
        ("ui = 1", "ui is 1; expected true or false"),
        ("model = [1.5, {}]", "expected a list of texts"),
        ("max-cells = 1\nmax_cells = 2", "stands there twice"),
        ("port = ", "cannot be read as TOML"),
        ('max-body-bytes = "12"', "without a unit"),
    ],
)
def test_a_file_that_is_wrong_is_told_where(settings_of, tmp_path, text, message):
    with pytest.raises(OptionError, match=re.escape(message)) as error:
        settings_of("--config", file_of(tmp_path, text))
    assert "serve.toml" in str(error.value)


def test_a_file_that_is_not_there(settings_of, tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        settings_of("--config", tmp_path / "none.toml")


def test_a_variable_with_a_slip_is_told(settings_of, monkeypatch, capsys):
    monkeypatch.setenv("SCGPT_INFER_SERVE_PROT", "1")
    settings_of("--model", "demo")
    assert "SCGPT_INFER_SERVE_PROT in the environment is no setting" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "name", "path"),
    [
        ("demo", "demo", "demo"),
        ("/bundles/human/", "human", "/bundles/human/"),
        ("blood.zip", "blood", "blood.zip"),
        ("a.b-c_d=/x y", "a.b-c_d", "/x y"),
        ("./a=b/model", "model", "./a=b/model"),
    ],
)
def test_a_model_is_called_as_it_is_told_or_as_its_file(told, name, path):
    assert serve.models_of((told,)) == (ModelAsked(name, path),)


def test_digests_belong_to_models():
    assert serve.models_of(("demo",), (f"sha256:{DIGEST}",))[0].expect == DIGEST
    found = serve.models_of(("a=/a", "b=/b"), (f"b=sha256:{DIGEST.upper()}",))
    assert [model.expect for model in found] == [None, DIGEST]


@pytest.mark.parametrize(
    ("models", "expect", "message"),
    [
        (("my model/",), (), "no name that a model can have"),
        (("a=/a", "b=/b"), (f"sha256:{DIGEST}",), "is for no model"),
        (("a=/a",), (f"b=sha256:{DIGEST}",), "is for no model"),
        (("a=/a",), ("sha256:12",), "is no digest"),
    ],
)
def test_names_and_digests_that_cannot_be(models, expect, message):
    with pytest.raises(OptionError, match=message):
        serve.models_of(models, expect)


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_times_without_end_are_refused_wherever_they_stand(settings_of, how, tmp_path, monkeypatch):
    words = ["--model", "demo"]
    if how == "flag":
        words += ["--max-wait-ms", "inf"]
    elif how == "environment":
        monkeypatch.setenv("SCGPT_INFER_SERVE_MAX_WAIT_MS", "inf")
    else:
        words += ["--config", file_of(tmp_path, "max-wait-ms = inf")]
    with pytest.raises(OptionError, match="max_wait_ms is inf; expected a number of milliseconds"):
        settings_of(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--keys-file", "none"), "cannot be read"),
        (("--tls-cert", "none.pem", "--tls-key", "none.pem"), "TLS cannot be had"),
        (("--tls-cert", "none.pem"), "TLS needs both"),
        (("--ui",), "--jobs-dir"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        commands.main(["serve", "--model", "demo", *words], standalone_mode=False)


def test_help_is_complete_and_in_sections():
    with serve.command.make_context("serve", [], resilient_parsing=True, max_content_width=110) as context:
        text = serve.command.get_help(context)
    options = [one for one in serve.command.params if isinstance(one, click.Option)]
    assert all(max(one.opts, key=len) in text for one in options)
    assert re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE)[:7] == [
        "Options",
        "Models",
        "Network",
        "Limits of a request",
        "Queue and batches",
        "Whole files",
        "Operation",
    ]
