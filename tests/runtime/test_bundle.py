import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import toy_bundle as toy
from scgpt_runtime.bundle import Bundle, pack, seal
from scgpt_runtime.errors import BundleChangedError, BundleError, BundleTooNewError, ProviderError
from scgpt_runtime.manifest import FORMAT, digest_of


@pytest.fixture
def folder(tmp_path) -> Path:
    return toy.write(tmp_path / "toy")


@pytest.fixture
def settled(monkeypatch):
    """Time passes: nothing changed within the last seconds."""
    monkeypatch.setattr("scgpt_runtime.digests._SETTLED_NS", -1)


def test_what_was_sealed_opens(folder):
    bundle = Bundle.open(folder)
    assert bundle.manifest.name == "toy"
    assert {record.path for record in bundle.manifest.files} == {
        "golden.npz",
        "graphs/embed.onnx",
        "graphs/weights.bin",
        "vocab.json",
    }
    assert bundle.graph("embed", "fp32").path == "graphs/embed.onnx"
    assert len(bundle.vocabulary()) == toy.GENES + 2
    assert bundle.golden().n_cells == 16


def test_a_bundle_is_the_one_that_was_opened_whatever_takes_its_place(folder, tmp_path):
    bundle = Bundle.open(folder)
    bundle.check_in_place()
    assert bundle.digest == _sha256(folder / "manifest.json")
    folder.rename(tmp_path / "before")
    other = toy.write(folder, name="other")
    assert bundle.digest == _sha256(tmp_path / "before" / "manifest.json") != Bundle.open(other).digest
    bundle.check_digest(f"sha256:{bundle.digest}")
    with pytest.raises(BundleChangedError, match="became another bundle"):
        bundle.check_in_place()


def test_sealing_twice_gives_the_same_bytes(tmp_path):
    one, two = toy.write(tmp_path / "one"), toy.write(tmp_path / "two")
    for path in sorted(found for found in one.rglob("*") if found.is_file()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path.name
    assert pack(one, tmp_path / "1.zip") == pack(two, tmp_path / "2.zip")


@pytest.mark.parametrize("name", ["golden.npz", "graphs/embed.onnx", "graphs/weights.bin", "vocab.json"])
@pytest.mark.parametrize("cached", [True, False])
def test_one_changed_byte_is_an_error_that_names_the_file(folder, tmp_path, settled, name, cached):
    cache = tmp_path / "cache" if cached else None
    Bundle.open(folder, cache)
    Bundle.open(folder, cache)
    path = folder / name
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # hides the change from mtime
    with pytest.raises(BundleChangedError, match=path.name):
        Bundle.open(folder, cache)


def test_a_missing_file_is_an_error_that_names_it(folder):
    (folder / "graphs" / "weights.bin").unlink()
    with pytest.raises(BundleChangedError, match=r"weights\.bin is missing"):
        Bundle.open(folder)


def test_a_cut_file_is_an_error_even_when_its_digest_is_remembered(folder, tmp_path, settled):
    Bundle.open(folder, tmp_path / "cache")
    with (folder / "golden.npz").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(BundleChangedError, match=r"golden\.npz has 100 bytes"):
        Bundle.open(folder, tmp_path / "cache")


def test_an_unchanged_file_is_read_once(folder, tmp_path, settled, monkeypatch):
    read = []
    monkeypatch.setattr("scgpt_runtime.digests.sha256_of", lambda path: read.append(path.name) or _sha256(path))
    Bundle.open(folder, tmp_path / "cache")
    assert sorted(read) == ["embed.onnx", "golden.npz", "vocab.json", "weights.bin"]
    Bundle.open(folder, tmp_path / "cache")
    assert len(read) == 4


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_cache_folder_that_cannot_be_written_costs_nothing_but_time(folder, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert Bundle.open(folder, tmp_path / "cache").manifest.name == "toy"
    pack(folder, tmp_path / "toy.zip")
    assert Bundle.open(tmp_path / "toy.zip", tmp_path / "cache").golden().n_cells == 16


def test_rubbish_in_the_cache_is_no_digest(folder, tmp_path, settled):
    Bundle.open(folder, tmp_path / "cache")
    (stamps,) = (tmp_path / "cache" / "stamps").iterdir()
    for rubbish in ("", "[]", '{"vocab.json": 3}', '{"vocab.json": [1, 2]}'):
        stamps.write_text(rubbish)
        assert Bundle.open(folder, tmp_path / "cache").manifest.name == "toy"


def test_a_newer_format_is_refused(folder):
    told = json.loads((folder / "manifest.json").read_text()) | {"format": FORMAT + 1}
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(BundleTooNewError):
        Bundle.open(folder)


def test_what_is_not_a_bundle_says_what_was_expected(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        Bundle.open(tmp_path)
    (tmp_path / "args.json").write_text("{}")
    with pytest.raises(BundleError, match="scgpt-infer export"):
        Bundle.open(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BundleError, match="neither a folder nor a zip"):
        Bundle.open(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        Bundle.open(tmp_path / "other.zip")


def test_a_manifest_that_was_never_sealed_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(toy.manifest().to_json())
    with pytest.raises(BundleError, match="never sealed"):
        Bundle.open(tmp_path)


def test_a_file_that_the_manifest_does_not_list_is_never_handed_out(folder):
    (folder / "evil.py").write_text("raise SystemExit")
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match=r"evil\.py"):
        bundle.file("evil.py")


@pytest.mark.parametrize(
    "location", ["../vocab.json", "/etc/hostname", "../../secret.bin", "a/../weights.bin", "other.bin"]
)
def test_a_graph_that_reads_other_files_is_neither_sealed_nor_opened(tmp_path, location):
    folder = toy.write(tmp_path / "toy")
    (folder / "graphs" / "embed.onnx").write_bytes(toy.model(external=location).SerializeToString())
    before = json.loads((folder / "manifest.json").read_text())
    with pytest.raises(BundleError, match="not a file of the bundle"):
        seal(folder, toy.manifest())
    path = folder / "graphs" / "embed.onnx"
    for record in before["files"]:
        if record["path"] == "graphs/embed.onnx":
            record |= {"size": path.stat().st_size, "sha256": _sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(before | {"digest": digest_of(before)}))
    with pytest.raises(BundleError, match="not a file of the bundle"):
        Bundle.open(folder)


def test_a_manifest_that_drops_a_data_file_does_not_get_it_read_unproven(folder, tmp_path, settled):
    Bundle.open(folder, tmp_path / "cache")
    told = json.loads((folder / "manifest.json").read_text())
    told["files"] = [record for record in told["files"] if record["path"] != "graphs/weights.bin"]
    (folder / "manifest.json").write_text(json.dumps(told | {"digest": digest_of(told)}))
    with pytest.raises(BundleError, match="not a file of the bundle"):
        Bundle.open(folder, tmp_path / "cache")


def test_data_files_of_inner_graphs_and_functions_are_found(tmp_path):
    from scgpt_runtime.external import external_locations

    def constant(location: str):
        tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"1234")
        toy.keep_outside(tensor, location)
        return helper.make_node("Constant", [], ["c"], value=tensor)

    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])
    inner = helper.make_graph([constant("inner.bin")], "inner", [], [out])
    other = helper.make_graph([constant("other.bin")], "other", [], [out])
    branch = helper.make_node("If", ["b"], ["c"], then_branch=inner, else_branch=other)
    truth = helper.make_tensor_value_info("b", TensorProto.BOOL, [])
    function = helper.make_function("f", "F", [], ["c"], [constant("function.bin")], [helper.make_opsetid("", 17)])
    made = helper.make_model(helper.make_graph([branch], "g", [truth], [out]), functions=[function])
    assert external_locations(made.SerializeToString()) == {"inner.bin", "other.bin", "function.bin"}
    assert external_locations(toy.model().SerializeToString()) == set()


@pytest.mark.parametrize("content", [b"not a graph at all", b"\x3a\xff\x01abc", b"\x80" * 11])
def test_what_is_no_graph_is_not_sealed(folder, content):
    (folder / "graphs" / "embed.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="not an ONNX file"):
        seal(folder, toy.manifest())


def test_links_are_not_sealed_and_links_out_are_not_opened(folder, tmp_path):
    shutil.move(folder / "vocab.json", tmp_path / "vocab.json")
    (folder / "vocab.json").symlink_to(tmp_path / "vocab.json")
    with pytest.raises(BundleError, match="link"):
        seal(folder, toy.manifest())
    with pytest.raises(BundleError, match="cp -rL"):
        Bundle.open(folder)


def test_a_graph_that_is_not_there_lists_those_that_are(folder):
    bundle = Bundle.open(folder)
    with pytest.raises(BundleError, match="classify; it holds embed"):
        bundle.graph("classify", "fp32")
    with pytest.raises(ProviderError, match=r"sealed: fp32.*fp32, fp16 or int8 in --precision"):
        bundle.graph("embed", "fp16")
    with pytest.raises(BundleError, match=r"no cuda graph.*portable"):
        bundle.graph("embed", "fp32", "cuda")


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("top", ["", "toy/"])
def test_a_zip_is_the_same_bundle(folder, tmp_path, cached, top):
    zipped = tmp_path / "toy.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, top + str(path.relative_to(folder)))
        archive.writestr(top + "../../escaped.txt", "not in the manifest, never written")
    bundle = Bundle.open(zipped, tmp_path / "cache" if cached else None)
    assert bundle.manifest == Bundle.open(folder).manifest
    np.testing.assert_array_equal(bundle.golden().data, Bundle.open(folder).golden().data)
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not list((tmp_path / "cache").rglob("*.part")) if cached else True


def test_a_zip_is_unpacked_once_per_content(folder, tmp_path):
    pack(folder, tmp_path / "toy.zip")
    first = Bundle.open(tmp_path / "toy.zip", tmp_path / "cache").path
    made = first.stat().st_ino
    assert Bundle.open(tmp_path / "toy.zip", tmp_path / "cache").path.stat().st_ino == made
    shutil.copy(tmp_path / "toy.zip", tmp_path / "copy.zip")
    assert Bundle.open(tmp_path / "copy.zip", tmp_path / "cache").path == first


def _rezip(folder: Path, zipped: Path, change) -> None:
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in sorted(found for found in folder.rglob("*") if found.is_file()):
            name = str(path.relative_to(folder))
            entry, content = zipfile.ZipInfo(name), path.read_bytes()
            change(archive, entry, content)


def test_a_zip_whose_entry_is_longer_than_sealed_is_refused(folder, tmp_path):
    def grow(archive, entry, content):
        archive.writestr(entry, content + (bytes(10_000_000) if entry.filename == "golden.npz" else b""))

    _rezip(folder, tmp_path / "bomb.zip", grow)
    with pytest.raises(BundleChangedError, match=r"golden\.npz"):
        Bundle.open(tmp_path / "bomb.zip", tmp_path / "cache")
    assert not [found for found in (tmp_path / "cache" / "bundles").rglob("*") if found.is_file()]


def test_a_link_in_a_zip_is_refused(folder, tmp_path):
    def link(archive, entry, content):
        if entry.filename == "vocab.json":
            entry.external_attr = 0o120777 << 16
            content = b"/etc/passwd"
        archive.writestr(entry, content)

    _rezip(folder, tmp_path / "link.zip", link)
    with pytest.raises(BundleError, match="link"):
        Bundle.open(tmp_path / "link.zip", tmp_path / "cache")


def test_a_zip_with_a_missing_or_changed_file_names_it(folder, tmp_path):
    def drop(archive, entry, content):
        if entry.filename != "graphs/weights.bin":
            archive.writestr(entry, content)

    def flip(archive, entry, content):
        archive.writestr(entry, content[::-1] if entry.filename == "golden.npz" else content)

    _rezip(folder, tmp_path / "a.zip", drop)
    _rezip(folder, tmp_path / "b.zip", flip)
    with pytest.raises(BundleChangedError, match=r"weights\.bin is missing"):
        Bundle.open(tmp_path / "a.zip", tmp_path / "cache")
    with pytest.raises(BundleChangedError, match=r"golden\.npz"):
        Bundle.open(tmp_path / "b.zip", tmp_path / "cache")


def test_a_cut_zip_is_an_error_not_a_traceback(folder, tmp_path):
    pack(folder, tmp_path / "toy.zip")
    whole = (tmp_path / "toy.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "cut.zip", tmp_path / "cache")


def test_a_damaged_copy_of_an_unpacked_zip_is_made_anew(folder, tmp_path, settled):
    pack(folder, tmp_path / "toy.zip")
    unpacked = Bundle.open(tmp_path / "toy.zip", tmp_path / "cache").path
    (unpacked / "vocab.json").write_text("{}")
    again = Bundle.open(tmp_path / "toy.zip", tmp_path / "cache")
    assert len(again.vocabulary()) == toy.GENES + 2
    (unpacked / "manifest.json").unlink()
    assert Bundle.open(tmp_path / "toy.zip", tmp_path / "cache").manifest == again.manifest
