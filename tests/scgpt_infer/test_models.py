import shutil
import sys
import threading
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import toy_bundle
from scgpt_infer import models
from scgpt_runtime.bundle import pack
from scgpt_runtime.errors import BundleError, CheckpointError, MissingDependencyError


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "scGPT_toy"
    folder.mkdir()
    (folder / "args.json").write_text("{}")
    (folder / "vocab.json").write_text("{}")
    (folder / "best_model.pt").write_bytes(b"weights")
    return folder


@pytest.fixture
def exports(monkeypatch) -> list[Path]:
    """Stands for the exporter: seals a toy bundle. The list holds what was exported."""
    done: list[Path] = []
    build, checkpoint = ModuleType("scgpt_export.build"), ModuleType("scgpt_export.checkpoint")

    def export(loaded, output, options, say):
        toy_bundle.write(output, name=options.name)
        say("sealed")
        done.append(loaded)

    build.ExportOptions, build.export, checkpoint.load = SimpleNamespace, export, lambda path: path
    package = ModuleType("scgpt_export")
    package.build, package.checkpoint = build, checkpoint
    for module in (package, build, checkpoint):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return done


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{folder.name}/{file.name}")
    return path


def test_a_bundle_is_opened_as_a_folder_or_a_zip(toy_model, tmp_path):
    pack(toy_model, tmp_path / "toy.zip")
    folder = models.resolve(toy_model, tmp_path / "cache")
    zipped_one = models.resolve(str(tmp_path / "toy.zip"), tmp_path / "cache")
    assert folder.manifest == zipped_one.manifest


def test_a_bundle_that_is_open_is_given_back(toy_model, tmp_path):
    bundle = models.resolve(toy_model, tmp_path / "cache")
    assert models.resolve(bundle) is bundle


def test_a_checkpoint_is_exported_once_whether_folder_or_zip_or_moved(checkpoint, exports, tmp_path):
    said: list[str] = []
    first = models.resolve(checkpoint, tmp_path / "cache", say=said.append)
    assert first.manifest.name == "scGPT_toy"
    assert "exported once" in said[0]
    shutil.copytree(checkpoint, tmp_path / "moved")
    for again in (checkpoint, tmp_path / "moved", zipped(checkpoint, tmp_path / "toy.zip")):
        assert models.resolve(again, tmp_path / "cache").path == first.path
    assert exports == [checkpoint]


def test_another_content_or_precision_is_another_export(checkpoint, exports, tmp_path):
    models.resolve(checkpoint, tmp_path / "cache")
    models.resolve(checkpoint, tmp_path / "cache", precision="fp16")
    assert len(exports) == 1
    models.resolve(checkpoint, tmp_path / "cache", precision="int8")
    assert len(exports) == 2
    (checkpoint / "best_model.pt").write_bytes(b"tuned")
    models.resolve(checkpoint, tmp_path / "cache")
    assert len(exports) == 3


def test_bf16_graphs_are_made_only_where_a_gpu_can_run_them(checkpoint, exports, tmp_path, monkeypatch):
    models.resolve(checkpoint, tmp_path / "cache")
    models.resolve(checkpoint, tmp_path / "cache", precision="bf16")
    assert len(exports) == 1
    monkeypatch.setattr(models, "gpus", lambda: ("a GPU",))
    models.resolve(checkpoint, tmp_path / "cache", precision="bf16")
    assert len(exports) == 2


def test_a_damaged_export_is_made_anew(checkpoint, exports, tmp_path):
    first = models.resolve(checkpoint, tmp_path / "cache")
    (first.path / "vocab.json").write_text("{}")
    assert models.resolve(checkpoint, tmp_path / "cache").vocabulary().tokens[0] == "G0"
    assert len(exports) == 2


def test_a_failed_export_leaves_nothing_in_the_cache(checkpoint, exports, tmp_path, monkeypatch):
    def fail(loaded, output, options, say):
        output.mkdir()
        raise CheckpointError("no")

    monkeypatch.setattr(sys.modules["scgpt_export"].build, "export", fail)
    with pytest.raises(CheckpointError):
        models.resolve(checkpoint, tmp_path / "cache")
    assert list((tmp_path / "cache" / "exported").iterdir()) == []


def test_two_first_exports_at_once_give_one_sound_bundle(checkpoint, exports, tmp_path, monkeypatch):
    both = threading.Barrier(2)
    export = sys.modules["scgpt_export"].build.export

    def slow(loaded, output, options, say):
        export(loaded, output, options, say)
        both.wait(20)

    monkeypatch.setattr(sys.modules["scgpt_export"].build, "export", slow)
    opened = []
    threads = [
        threading.Thread(target=lambda: opened.append(models.resolve(checkpoint, tmp_path / "cache"))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 2
    assert opened[0].path == opened[1].path
    assert [path.name for path in (tmp_path / "cache" / "exported").iterdir()] == [opened[0].path.name]


def test_without_the_export_extra_the_install_line_is_said(checkpoint, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "scgpt_export"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r'torch.*pip install "scgpt-infer\[export\]"'):
        models.resolve(checkpoint, tmp_path / "cache")


@pytest.mark.parametrize("model", ["human", "no/such/folder", Path("human"), "", " "])
def test_what_does_not_exist_is_told_what_is_accepted(model):
    with pytest.raises(BundleError, match=r"Expected a bundle .*checkpoint .*demo"):
        models.resolve(model)


def test_weights_alone_are_told_to_come_with_their_folder(tmp_path):
    zipped_weights = tmp_path / "best_model.pt"
    with zipfile.ZipFile(zipped_weights, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    safe = tmp_path / "model.safetensors"
    safe.write_bytes(b"\0" * 64)
    for path in (zipped_weights, safe):
        with pytest.raises(CheckpointError, match=r"holds weights alone.*args\.json"):
            models.resolve(path)


def test_a_folder_of_something_else_is_told_what_was_found(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"it has notes\.txt"):
        models.resolve(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="nothing in it"):
        models.resolve(tmp_path / "empty")
    with pytest.raises(BundleError, match="neither a folder nor a zip"):
        models.resolve(tmp_path / "notes.txt")


@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_that_lost_its_manifest_is_not_taken_for_a_checkpoint(toy_model, tmp_path, exports, packed):
    broken = tmp_path / "toy"
    shutil.copytree(toy_model, broken)
    (broken / "manifest.json").unlink()
    if packed:
        broken = Path(shutil.make_archive(str(broken), "zip", tmp_path, "toy"))
    with pytest.raises(BundleError, match=r"lacks manifest\.json.*fresh copy"):
        models.resolve(broken, tmp_path / "cache")
    assert exports == []


def test_a_checkpoint_with_a_folder_of_plots_stays_a_checkpoint(checkpoint, exports, tmp_path):
    (checkpoint / "graphs").mkdir()
    models.resolve(checkpoint, tmp_path / "cache")
    assert exports == [checkpoint]


def test_demo_is_reserved_even_where_a_folder_has_the_name(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    shipped = toy_bundle.write(tmp_path / "package" / "demo" / "bundle", name="shipped")
    monkeypatch.setattr(models, "files", lambda package: shipped.parents[1])
    assert models.resolve("demo").manifest.name == "shipped"
    with pytest.raises(BundleError, match="nothing in it"):
        models.resolve("./demo")
    with pytest.raises(BundleError, match="nothing in it"):
        models.resolve(Path("demo"))


def test_inspecting_and_verifying_do_not_export(checkpoint, exports):
    with pytest.raises(BundleError, match="scgpt-infer export"):
        models.open_bundle(checkpoint)
    assert exports == []


def test_the_cache_follows_xdg_and_else_the_home(tmp_path, monkeypatch):
    assert models.user_cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "scgpt-infer"
    monkeypatch.setenv("HOME", "/home/someone")
    for environment in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert models.user_cache(environment) == Path("/home/someone/.cache/scgpt-infer")


def test_a_cache_that_cannot_be_written_is_replaced_by_one_private_folder(checkpoint, exports, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    folder = models.usable_cache(blocked / "cache")
    assert folder.stat().st_mode & 0o077 == 0
    assert models.usable_cache(blocked / "cache") == folder
    models.resolve(checkpoint, blocked / "cache")
    models.resolve(checkpoint, blocked / "cache")
    assert len(exports) == 1


def test_a_user_without_a_home_gets_a_private_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert models.usable_cache().is_dir()
