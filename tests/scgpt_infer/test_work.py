import pytest

from scgpt_infer.work import WorkOptions
from scgpt_runtime.errors import OptionError


@pytest.mark.parametrize("changes", [{"memory": 0}, {"workers": -1}, {"workers": True}, {"memory": 1.5}])
def test_what_is_no_number_of_anything_is_refused(changes):
    (name,) = changes
    with pytest.raises(OptionError, match=f"{name} is"):
        WorkOptions(**changes)


def test_the_defaults_go_on_with_what_is_kept():
    assert WorkOptions().resume
