"""An index of some hundred cells."""

import pytest

from scgpt_infer.reference import ReferenceIndex
from toy_reference import drawn, labelled


@pytest.fixture
def index(tmp_path) -> ReferenceIndex:
    return ReferenceIndex.build(tmp_path / "ref.index", labelled(drawn(300)))
