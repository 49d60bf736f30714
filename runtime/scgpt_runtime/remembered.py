"""What was found out about this machine once, kept as JSON in the cache folder.

In: a key made of all that the finding depends on. Out: the finding, or None. A cache folder that cannot be read
or written costs time, never correctness.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["Remembered"]


class Remembered:
    """One finding.

    Parameters
    ----------
    cache_dir
        None: nothing is remembered.
    kind
        What was found out; names the folder.
    depends_on
        All that the finding depends on, in JSON's types.
    """

    def __init__(self, cache_dir: Path | None, kind: str, depends_on: dict[str, Any]) -> None:
        self._depends_on = json.loads(json.dumps(depends_on))
        key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:32]
        self._path = None if cache_dir is None else cache_dir / kind / f"{key}.json"

    def possible(self) -> bool:
        """Whether there is a place to remember anything."""
        if self._path is None:
            return False
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self._path.parent, os.W_OK)

    def recall(self) -> Any:
        """The finding; None where there is none, or what is there is damaged."""
        if self._path is None:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return found["found"] if found["depends_on"] == self._depends_on else None
        return None

    def keep(self, finding: Any) -> Any:
        """Write the finding, with what it depends on beside it, so that people can read why.

        Returns
        -------
        The finding that holds from now on: this one, or that of another process which was first.
        """
        if self._path is None or not self.possible():
            return finding
        beside = None
        try:
            handle, beside = tempfile.mkstemp(dir=self._path.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"depends_on": self._depends_on, "found": finding}, file, indent=1, sort_keys=True)
            if self.recall() is None:  # what is there is damaged
                self._path.unlink(missing_ok=True)
            os.link(beside, self._path)  # unlike a rename, it leaves what another process has written meanwhile
        except FileExistsError:
            pass
        except OSError:  # a full disk, or a file system without links
            return finding
        finally:
            if beside is not None:
                Path(beside).unlink(missing_ok=True)
        known = self.recall()
        return finding if known is None else known
