"""``scgpt-infer export``: usage, missing packages, exit code 3, zips."""

import hashlib
import importlib.util
import json
import zipfile
from dataclasses import replace

import pytest

from scgpt_infer import cli
from scgpt_runtime.manifest import ParityRecord

OUTSIDE = ParityRecord("embed", "int8", "CPUExecutionProvider 1", "1-cosine", 0.2, 0.01, 16)


@pytest.fixture
def no_measuring(monkeypatch, tiny_bundle):
    """Replace the export itself: what it would leave out is the test's to say."""
    from scgpt_export import build
    from scgpt_runtime.bundle import Bundle

    def install(*left_out):
        manifest = replace(Bundle.open(tiny_bundle).manifest, precisions=("fp32",))
        report = build.ExportReport(manifest, left_out)
        monkeypatch.setattr(build, "export", lambda checkpoint, output, options, say: report)

    return install


def test_a_checkpoint_or_random_weights_but_not_both(tmp_path, capsys):
    assert cli.run(["export", "-o", str(tmp_path / "x")]) == 2
    assert cli.run(["export", "ckpt", "--random", "tiny", "-o", str(tmp_path / "x")]) == 2
    assert "--random" in capsys.readouterr().err


def test_missing_packages_are_told_with_the_install_line(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert cli.run(["export", "ckpt", "-o", str(tmp_path / "x")]) == 2
    message = capsys.readouterr().err
    assert "torch" in message
    assert 'pip install "scgpt-infer[cpu,export]"' in message


def test_a_precision_below_parity_is_exit_code_3_with_its_figure(no_measuring, golden_files, tmp_path, capsys):
    no_measuring(OUTSIDE)
    words = ["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x")]
    assert cli.run(words) == 3
    assert "left out int8 embed: 1-cosine 2.0e-01, limit 0.01" in capsys.readouterr().err
    assert cli.run([*words, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"][0]["worst"] == 0.2
    assert told["precisions"] == ["fp32"]


def test_all_precisions_within_parity_is_exit_code_0(no_measuring, golden_files, tmp_path, capsys):
    no_measuring()
    assert cli.run(["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x"), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_precision_that_was_not_measured_is_said(no_measuring, golden_files, tmp_path, monkeypatch, capsys):
    from scgpt_export import build

    no_measuring()
    plain = build.export(None, None, None, None)
    manifest = replace(plain.manifest, precisions=("fp32", "fp16", "bf16"))
    monkeypatch.setattr(build, "export", lambda checkpoint, output, options, say: replace(plain, manifest=manifest))
    words = ["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x"), "--precision", "fp32,bf16"]
    assert cli.run(words) == 0
    assert "bf16 is for NVIDIA GPUs and was not measured here" in capsys.readouterr().out
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unmeasured"] == ["bf16"]


def test_bf16_without_fp32_is_told(golden_files, tmp_path, capsys):
    words = ["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x"), "--precision", "bf16"]
    assert cli.run(words) == 2
    assert "add fp32" in capsys.readouterr().err


def test_an_unknown_precision_is_told(golden_files, tmp_path, capsys):
    words = ["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x"), "--precision", "fp8"]
    assert cli.run(words) == 2
    assert "fp8" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x", "x.zip"])
def test_what_cannot_be_made_is_told_before_the_checkpoint_is_loaded(tmp_path, monkeypatch, capsys, name):
    from scgpt_export import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda *given, **beside: pytest.fail("loaded"))
    (tmp_path / name).mkdir()
    for words, told in (
        (["-o", str(tmp_path / name)], f"{name} exists already"),
        (["-o", str(tmp_path / "missing" / name)], f"There is no folder {tmp_path / 'missing'} to put {name} into"),
        (["-o", str(tmp_path / f"new-{name}"), "--precision", "fp32,fp8"], "fp8"),
    ):
        assert cli.run(["export", "ckpt", *words]) == 2
        printed = capsys.readouterr().err
        assert told in printed
        assert "Traceback" not in printed


def test_cells_that_calibrate_reach_the_export_with_their_digest(
    monkeypatch, tiny_bundle, golden_files, toy_h5ad, toy_adata, tmp_path
):
    from scgpt_export import build
    from scgpt_runtime.bundle import Bundle

    seen = []
    report = build.ExportReport(Bundle.open(tiny_bundle).manifest, ())
    monkeypatch.setattr(build, "export", lambda checkpoint, output, options, say: seen.append(options) or report)
    words = ["export", str(golden_files / "small_checkpoint"), "-o", str(tmp_path / "x"), "-q"]
    told = ["--precision", "fp32,int8", "--calibrate", str(toy_h5ad), "--calibrate-cells", "100"]
    assert cli.run([*words, *told]) == 0
    assert cli.run(words) == 0
    calibrated, plain = seen
    assert plain.calibration is None
    cells = calibrated.calibration
    assert cells.block.n_cells == 100
    assert cells.sha256 == hashlib.sha256(toy_h5ad.read_bytes()).hexdigest()
    assert list(cells.gene_names["index"]) == list(toy_adata.var_names)


def test_cells_that_cannot_calibrate_are_told_before_the_checkpoint_is_loaded(tmp_path, monkeypatch, toy_h5ad, capsys):
    from scgpt_export import checkpoint

    monkeypatch.setattr(checkpoint, "load", lambda *given, **beside: pytest.fail("loaded"))
    for words, told in (
        (["--precision", "fp32,int8", "--calibrate", "missing.h5ad"], "There is no file missing.h5ad"),
        (["--precision", "fp32", "--calibrate", str(toy_h5ad)], "Add int8"),
    ):
        assert cli.run(["export", "ckpt", "-o", str(tmp_path / "x"), *words]) == 2
        assert told in capsys.readouterr().err


def test_a_bundle_is_told_to_be_one_already(tiny_bundle, tmp_path, capsys):
    assert cli.run(["export", str(tiny_bundle), "-o", str(tmp_path / "x")]) == 2
    assert "is a bundle already" in capsys.readouterr().err


@pytest.mark.slow
def test_random_weights_become_a_zip_that_verifies(tmp_path, capsys):
    output = tmp_path / "random.zip"
    assert cli.run(["export", "--random", "tiny", "-o", str(output), "--precision", "fp32"]) == 0
    assert zipfile.is_zipfile(output)
    assert [path.name for path in tmp_path.iterdir()] == ["random.zip"]
    assert cli.run(["verify", str(output)]) == 0
    assert cli.run(["export", "--random", "tiny", "-o", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err
