"""Files that strangers send: a path comes in, and goes on when a process with limits has found nothing wrong in it.

What a job reads later is what was looked at here. Nothing of a file is executed, and nothing outside it is opened.
"""

from scgpt_infer.server.uploads.checking import Checked, checked
from scgpt_infer.server.uploads.chosen import Chosen
from scgpt_infer.server.uploads.limits import Limits
from scgpt_infer.server.uploads.naming import SUFFIXES, suffix_of

__all__ = ["SUFFIXES", "Checked", "Chosen", "Limits", "checked", "suffix_of"]
