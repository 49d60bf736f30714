import hashlib
import logging
from pathlib import Path

import pytest

from scgpt_infer.server.front.keys import Keys, shown_key
from scgpt_infer.server.open_paths import needs_key
from scgpt_runtime.errors import OptionError

SECRET = "a-long-secret"


def keys_of(folder: Path, text: str) -> Keys:
    path = folder / "keys"
    path.write_text(text)
    return Keys(path)


def test_a_key_has_its_owner_however_the_file_tells_it(tmp_path: Path) -> None:
    sealed = hashlib.sha256(b"kept as a digest").hexdigest()
    keys = keys_of(tmp_path, f"# ours\n\nlab:{SECRET}\nlab:the-next:one\nclinic:sha256:{sealed}\n")
    assert keys.name_of(SECRET) == "lab"
    assert keys.name_of("the-next:one") == "lab"
    assert keys.name_of("kept as a digest") == "clinic"


@pytest.mark.parametrize("wrong", ["", SECRET[:-1], SECRET + "x", "lab", "\xff\ud800"])
def test_what_is_no_key_is_nobodys(tmp_path: Path, wrong: str) -> None:
    assert keys_of(tmp_path, f"lab:{SECRET}").name_of(wrong) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lab", "line 1 is not name:key"),
        ("\nlab:two words", "line 2 is not name:key"),
        (":secret", "line 1 is not name:key"),
        ("lab:sha256:12", "64 hexadecimal digits"),
        (f"lab:{SECRET}\nclinic:{SECRET}", "clinic and lab have one key"),
        ("# nothing", "has no API key"),
    ],
)
def test_a_file_that_cannot_be_right_is_told_without_its_secrets(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as error:
        keys_of(tmp_path, text)
    assert SECRET not in str(error.value)
    assert "two words" not in str(error.value)


def test_keys_are_read_again_and_kept_where_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = keys_of(tmp_path, f"lab:{SECRET}")
    (tmp_path / "keys").write_text("lab:another")
    keys.reload()
    assert keys.name_of(SECRET) is None
    assert keys.name_of("another") == "lab"
    (tmp_path / "keys").write_text("half a li")
    with caplog.at_level(logging.ERROR):
        keys.reload()
    assert keys.name_of("another") == "lab"
    assert "stay as they were" in caplog.text


def test_where_a_key_may_stand() -> None:
    assert shown_key([(b"authorization", b"bearer  abc")]) == "abc"
    assert shown_key([(b"x-api-key", b"abc")]) == "abc"
    assert shown_key([(b"authorization", b"Basic YTpi"), (b"x-api-key", b"abc")]) == "abc"
    assert shown_key([(b"authorization", b"Basic YTpi")]) is None


def test_probes_and_the_page_need_no_key_and_all_else_does() -> None:
    assert not any(map(needs_key, ("/livez", "/readyz", "/metrics", "/v2/health/ready", "/", "/page/page.js")))
    assert all(map(needs_key, ("/v1/embed", "/v2", "/v2/models/demo/infer", "/v1/jobs", "//livez", "/livez/")))
