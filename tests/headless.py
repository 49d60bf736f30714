"""A page in a headless Chromium, driven over the DevTools protocol through a pipe: no port, no package.

In: a file. Out: what the page did (`Visit`): console, errors, requests, values of expressions, pictures.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Visit", "browser", "visit"]

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 60


def browser() -> str:
    """The browser's path. Its test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium is installed (on Debian and Ubuntu: apt-get install chromium)")


class Visit:
    """One page that is open.

    Attributes
    ----------
    said
        Lines of the console, warnings of the browser, exceptions that nobody caught, and dialogs.
    asked
        URLs that were requested.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._rest, self._number, self._session = b"", 0, ""
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._outgoing, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    def open(
        self, page: Path | str, fragment: str = "", *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Load a page, a file or a URL, and wait until it has loaded."""
        self.theme(dark)
        phone = width < 600
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self("Emulation.setTouchEmulationEnabled", enabled=phone)
        self("Page.navigate", url="about:blank")  # or else another fragment would not load the page anew
        self("Page.navigate", url=(page.as_uri() if isinstance(page, Path) else page) + fragment)
        self.until("document.readyState === 'complete'")

    def theme(self, dark: bool) -> None:
        """Prefer light or dark pages from now on."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self("Emulation.setEmulatedMedia", features=scheme)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def framed(self, expression: str) -> Any:
        """What an expression gives in the page's one frame that has an origin of its own; None while there is none."""
        targets = self("Target.getTargets")["targetInfos"]
        frames = [target["targetId"] for target in targets if target["type"] == "iframe"]
        if not frames:
            return None
        own, self._session = self._session, ""
        self._session = self("Target.attachToTarget", targetId=frames[0], flatten=True)["sessionId"]
        try:
            return self.value(expression)
        finally:
            self._session = own

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} was not true within {_PATIENCE_S} s; said: {self.said}"
            time.sleep(0.02)

    def choose(self, field: str, *files: Path) -> None:
        """Choose files in a field that a selector names."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=field)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def mouse(self, kind: str, place: tuple[float, float], **more: Any) -> None:
        """Move, press, release or turn the wheel at a place of the window."""
        self("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def click(self, place: tuple[float, float]) -> None:
        """Press and release the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, place, button="left", clickCount=1)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """Set down, move or lift fingers."""
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        self("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def press(self, key: str) -> None:
        """Press a key."""
        self("Input.dispatchKeyEvent", type="keyDown", key=key)
        self("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Save what the page looks like, all of it or what fits the window."""
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._incoming], [], [], _PATIENCE_S)[0], f"no answer within {_PATIENCE_S} s"
            more = os.read(self._incoming, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(word.get("value", word.get("description"))) for word in told["args"]))
        elif event == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.said.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded":
            self.said.append(told["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.said.append(f"a dialog: {told['message']}")
        elif event == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])


@contextmanager
def visit() -> Iterator[Visit]:
    """A browser with one empty page; it ends with the block."""
    command = browser()
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [command, *_FLAGS, f"--user-data-dir={profile}"]
        # The protocol's pipe is at descriptors 3 and 4, where bash puts it; dash knows no descriptor above 9.
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *words]
        process = subprocess.Popen(
            shell, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Visit(ours_in, ours_out)
        finally:
            os.close(ours_out)  # the browser ends when its pipe does
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_in)
