"""Messages as clients know things: `as_options` names options as a job has them, `as_owned` files too.

In: what the command line would say. Out: the same with an option where it names a flag, and no folder of this server.
"""

import re
from dataclasses import fields
from typing import Final, TypeVar, cast

from scgpt_infer.options import CHOICES
from scgpt_infer.server.jobs.asked import JobAsked
from scgpt_infer.server.jobs.records import Job

__all__ = ["as_options", "as_owned"]

_FOLDER: Final = "the job's folder"
_OPTIONS: Final = frozenset(field.name for field in fields(JobAsked))
_VALUE: Final = rf"(?<=layer) (?=\S)|(?<=cells-in) (?=(?:{'|'.join(CHOICES['cells_in'])})\b)"
_FLAG: Final = re.compile(rf"(?<![\w-])--([a-z][a-z-]*[a-z])({_VALUE}|, [a-z_]+=\.\.\.)?")

_Told = TypeVar("_Told")


def as_options(text: str) -> str:
    """A text with the flags of the command line named as options of a job: ``--gene-col`` becomes ``gene_col``."""

    def named(flag: re.Match[str]) -> str:
        name = flag[1].replace("-", "_")
        return flag[0] if name not in _OPTIONS else f"{name}=" if flag[2] == " " else name

    return _FLAG.sub(named, text)


def as_owned(told: _Told, job: Job) -> _Told:
    """Texts, alone or in lists and dictionaries, that name the file as its owner does, and no folder of this server."""
    if isinstance(told, str):
        return cast(_Told, _renamed(as_options(told), job))
    if isinstance(told, dict):
        return cast(_Told, {as_owned(name, job): as_owned(value, job) for name, value in told.items()})
    if isinstance(told, list):
        return cast(_Told, [as_owned(value, job) for value in told])
    return told


def _renamed(text: str, job: Job) -> str:
    upload = job.upload
    for folder in (job.results, upload.parent, job.folder):
        for path in {folder, folder.resolve()}:
            text = text.replace(f"{path}/", "").replace(str(path), _FOLDER)
    return text.replace(upload.name, job.submitted.asked.name)
