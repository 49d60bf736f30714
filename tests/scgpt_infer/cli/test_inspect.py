"""``scgpt-infer inspect`` and ``verify``: what a bundle says of itself, and whether it holds here."""

import json
import re
from dataclasses import replace

from scgpt_infer import cli
from scgpt_infer.cli.inspect import report
from scgpt_runtime import choosing
from scgpt_runtime.bundle import Bundle


def test_inspect_shows_parity_and_vector_id_of_every_precision(tiny_bundle, capsys):
    assert cli.run(["inspect", str(tiny_bundle)]) == 0
    out = capsys.readouterr().out
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    assert set(manifest["precisions"]) == {"fp32", "fp16", "int8"}
    for precision, vector_id in manifest["vector_ids"].items():
        assert re.search(rf"{precision} +{vector_id}", out)
    for record in manifest["parity"]:
        assert f"{record['precision']:<5} {record['task']:<12} {record['measure']} {record['worst']:.1e}" in out
        assert record["provider"] in out


def test_inspect_says_which_graphs_have_no_figure(tiny_bundle):
    manifest = Bundle.open(tiny_bundle).manifest
    head = next(graph for graph in manifest.graphs if graph.task == "mvc" and graph.precision == "fp32")
    cells = replace(head, task="embed", dialect="cuda-flash", path="graphs/embed.bf16.cuda-flash.onnx")
    bf16 = tuple(replace(graph, precision="bf16") for graph in (head, cells))
    told = report(replace(manifest, precisions=(*manifest.precisions, "bf16"), graphs=(*manifest.graphs, *bf16),
                          vector_ids={**manifest.vector_ids, "bf16": "0" * 32}))  # fmt: skip
    lines = [line.split() for line in told.splitlines() if "not measured" in line]
    assert [(words[0], words[1], words[-1]) for words in lines] == [
        ("fp16", "embed", "(cuda-packed)"),
        ("bf16", "embed", "(cuda-flash)"),
    ]


def test_inspect_says_where_zeros_are_tokens(tiny_bundle):
    manifest = Bundle.open(tiny_bundle).manifest
    told = "genes that a cell does not express, too"
    assert told not in report(manifest)
    assert told in report(replace(manifest, tokenizer=replace(manifest.tokenizer, include_zeros=True)))


def test_inspect_shows_each_name_on_one_line(tiny_bundle):
    manifest = replace(Bundle.open(tiny_bundle).manifest, labels=("T\ncell", "x" * 300))
    assert f"Labels (2): T cell, {'x' * 59}…" in report(manifest).splitlines()


def test_inspect_as_json_is_the_manifest(tiny_bundle, capsys):
    assert cli.run(["inspect", str(tiny_bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tiny_bundle / "manifest.json").read_text())


def test_verify_proves_every_precision_here(tiny_bundle, capsys):
    assert cli.run(["verify", str(tiny_bundle), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {"fp32", "fp16", "int8"} <= {result["precision"] for result in results}
    assert {result["provider"].split()[0] for result in results} == {"CPUExecutionProvider", "OpenVINO"}
    assert all(result["passed"] and result["tokens_equal"] for result in results)


def test_verify_takes_a_gpu_by_number_or_says_why_not(toy_model, capsys, monkeypatch):
    monkeypatch.setattr(choosing, "obstacle", lambda provider: "None is there.")
    assert cli.run(["verify", str(toy_model), "--device", "3"]) == 2
    assert "device is '3', but no GPU can be used. None is there." in capsys.readouterr().err


def test_a_bundle_that_answers_otherwise_fails_verify_with_2(toy_model, tmp_path, capsys):
    import toy_bundle
    from scgpt_runtime.bundle import seal
    from scgpt_runtime.golden import Golden

    folder = toy_bundle.write(tmp_path / "other")
    golden = Golden.load(folder / "golden.npz")
    golden.vectors[0] = -golden.vectors[0]
    golden.save(folder / "golden.npz")
    seal(folder, toy_bundle.manifest())
    assert cli.run(["verify", str(toy_model)]) == 0
    assert capsys.readouterr().out.startswith("passed")
    assert cli.run(["verify", str(folder)]) == 2
    assert capsys.readouterr().out.startswith("FAILED")


def test_verify_takes_only_the_bundle_that_is_expected(toy_model, capsys):
    digest = Bundle.open(toy_model).digest
    assert cli.run(["verify", str(toy_model), "--provider", "cpu", "--expect", f"sha256:{digest}"]) == 0
    assert capsys.readouterr().out.startswith("passed")
    assert cli.run(["verify", str(toy_model), "--provider", "cpu", "--expect", f"sha256:{'0' * 64}"]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert f"has the digest sha256:{digest}" in told.err


def test_what_is_no_bundle_is_told_what_one_is(tmp_path, capsys):
    assert cli.run(["inspect", str(tmp_path)]) == 2
    assert "bundle" in capsys.readouterr().err
