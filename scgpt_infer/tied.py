"""Python processes that end with the one that started them: `program` is what one runs.

It knows nothing of what either does.
"""

import ctypes
import os
import signal
import sys

__all__ = ["program", "tie_to"]

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl

_PROGRAM = """{before}
import sys
sys.path[:] = {path!r}
from scgpt_infer.tied import tie_to
tie_to({parent})
from {module} import {name}
{name}(*{arguments!r})
"""


def program(function: str, *arguments: object, before: str = "") -> str:
    """The text of a program, for ``python -c``: a function, in a process that imports what this one does.

    Parameters
    ----------
    function
        Its module, a colon, and its name.
    arguments
        Plain values that it is called with.
    before
        Python that comes before all else.
    """
    module, _, name = function.partition(":")
    return _PROGRAM.format(
        before=before, path=sys.path, parent=os.getpid(), module=module, name=name, arguments=arguments
    )


def tie_to(parent: int) -> None:
    """End with the process that has started this one, even when this one does not listen; Linux alone can do that.

    Parameters
    ----------
    parent
        Number of that process.
    """
    try:
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
