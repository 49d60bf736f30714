"""How the work of a job is done, beside what is asked for: `WorkOptions`, checked when it is made.

None of it can change a result.
"""

from dataclasses import dataclass, fields

from scgpt_infer.spans import Shard
from scgpt_runtime.errors import OptionError

__all__ = ["WorkOptions"]


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """How the work is done.

    Attributes
    ----------
    resume
        Go on with what an earlier run of the same job has kept. Else begin anew.
    shard
        Do this share of the ranges and keep the parts, to be merged with those of the other shares. None: all of it.
    memory
        Bytes that all processes of the job may hold together. None: no bound.
    workers
        Processes, or with `ray` actors, that share the work. None: this process, or with ``device="all"`` one each.
    ray
        Address of a Ray cluster, ``auto`` for the one that is named by the environment or a local one. None: no Ray.
    strict
        A file of several that cannot be read ends the job.

    Raises
    ------
    OptionError
        When a value is not allowed.
    """

    resume: bool = True
    shard: Shard | None = None
    memory: int | None = None
    workers: int | None = None
    ray: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("memory", "workers"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1.")

    def check(self, job: str, *able: str) -> None:
        """Make sure that a job does all that is asked.

        Parameters
        ----------
        job
            Its name, for the message.
        able
            Options that it heeds, beside `resume`.

        Raises
        ------
        OptionError
            Something is asked that it would leave undone.
        """
        heeded = ("resume", *able)
        asked = [one.name for one in fields(self) if one.name not in heeded and getattr(self, one.name) != one.default]
        if asked:
            raise OptionError(
                f"{' and '.join(asked)} of WorkOptions {'are' if len(asked) > 1 else 'is'} not for {job}, which heeds "
                f"{', '.join(heeded)}. Leave {'them' if len(asked) > 1 else 'it'} out here."
            )
