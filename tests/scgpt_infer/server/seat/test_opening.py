"""What a seat opens is proven, measured, and of one bundle."""

import shutil
import time
from contextlib import nullcontext

import pytest

from scgpt_infer.models import resolve
from scgpt_infer.options import EmbedOptions
from scgpt_infer.server.seat import process
from scgpt_infer.server.seat.opening import Opened, open_model
from scgpt_infer.server.seat.spec import Spec
from scgpt_runtime import engine
from scgpt_runtime.bundle import Bundle
from scgpt_runtime.errors import BundleChangedError

SPEC = Spec("demo", 1, "demo", "", options=EmbedOptions(provider="cpu"))


def test_how_fast_a_model_is_does_not_count_what_is_compiled_first(monkeypatch):
    tokenize = engine.tokenize

    def slow(*told, **named):
        time.sleep(1.0)  # as numba takes to compile, the first time
        return tokenize(*told, **named)

    monkeypatch.setattr(engine, "tokenize", slow)
    began = time.monotonic()
    with open_model(SPEC) as opened:
        assert opened.tokens > 0
        assert 0 < opened.seconds < time.monotonic() - began - 1.0


def test_a_bundle_that_another_takes_the_place_of_while_it_is_opened_is_not_served(tmp_path, monkeypatch):
    shutil.copytree(resolve("demo").path, tmp_path / "m")
    bundle = Bundle.open(tmp_path / "m")
    (tmp_path / "m" / "manifest.json").write_text(bundle.manifest.to_json().replace("demo", "other"))
    opened = Opened(bundle, None, None, SPEC.options, 0, 0.0)
    monkeypatch.setattr(process, "_opener", lambda spec: nullcontext(opened))
    with pytest.raises(BundleChangedError, match="became another bundle"):
        process._sit(None, SPEC)
