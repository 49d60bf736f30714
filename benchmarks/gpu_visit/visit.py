"""Run the stages of a visit, each in a process of its own with a time limit, and keep what each has found.

In: stages, a question, a budget. Out: the results, written after every stage. A stage that dies, hangs or is stopped
costs the others nothing.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Self

from benchmarks.gpu_visit import record, table
from benchmarks.gpu_visit.environment import ROOT, environment
from benchmarks.gpu_visit.part import Ask
from benchmarks.gpu_visit.plan import Stage, affordable, granted

__all__ = ["Running", "Visit", "stage_command"]

LOG_BYTES = 400_000
"""Most of a stage's output that is kept; its end tells most."""

WHY_LINES = 30

Command = Callable[[Stage, Path, Path], list[str]]


def stage_command(stage: Stage, ask: Path, part: Path) -> list[str]:
    """How a stage is started."""
    return [sys.executable, "-m", "benchmarks.gpu_visit.stage", stage.name, str(ask), str(part)]


@dataclass(slots=True)
class Running:
    """A stage that was started."""

    stage: Stage
    process: subprocess.Popen[str]
    reader: threading.Thread
    log: Path
    part: Path
    began: str
    started: float
    limit: float

    @classmethod
    def start(cls, stage: Stage, ask: Ask, limit: float, command: Command) -> Self:
        """Start a stage; its words go to a log, and those for people to standard error."""
        folder = ask.cache / "stages"
        folder.mkdir(parents=True, exist_ok=True)
        question, part, log = (folder / f"{stage.name}.{end}" for end in ("ask.json", "json", "log"))
        part.unlink(missing_ok=True)
        replace(ask, ends=time.time() + limit).save(question)
        process = subprocess.Popen(
            command(stage, question, part),
            cwd=ROOT,
            env=environment(ask.cache, hide_gpu=stage.alongside),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # so that a stage that hangs ends with all that it has started
        )
        assert process.stdout is not None
        named = f"rehearsal: {stage.name}" if ask.rehearsal else stage.name
        reader = threading.Thread(target=_follow, args=(named, process.stdout, log), daemon=True)
        reader.start()
        return cls(stage, process, reader, log, part, record.now(), time.monotonic(), limit)

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def finish(self) -> dict[str, Any]:
        """Wait until it ends or its time is over; gives its share of the results."""
        try:
            code = self.process.wait(max(0.0, self.limit - (time.monotonic() - self.started)))
            status = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            code, status = 0, "stopped"
        seconds = round(time.monotonic() - self.started, 2)
        self.end()
        told = {"status": status, "seconds": seconds, "limit": round(self.limit, 1), "began": self.began}
        ended = f"signal {-code}; " if code < 0 else ""
        why = {"failed": f"{ended}{self._last_words()}", "stopped": f"stopped at its limit; {self._last_words()}"}
        return told | ({"why": why[status]} if status in why else {}) | {"found": self._found()}

    def end(self) -> None:
        """End it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(5)
        if self.process.stdout is not None and not self.reader.is_alive():
            self.process.stdout.close()

    def _found(self) -> dict[str, Any]:
        if not self.part.exists():
            return {}
        return dict(record.read(self.part))

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-WHY_LINES:]) or "it ended without a word"


def _follow(name: str, stream: IO[str], log: Path) -> None:
    with log.open("w", encoding="utf-8") as kept:
        for line in stream:
            kept.write(line)
            kept.flush()
            if line.startswith("· "):
                print(f"[{name}] {line[2:].rstrip()}", file=sys.stderr, flush=True)


class Visit:
    """A visit.

    Parameters
    ----------
    stages
        In the order in which they run.
    ask
        What they are told.
    budget
        Seconds in all.
    command
        How a stage is started; tests have another.
    """

    def __init__(self, stages: Sequence[Stage], ask: Ask, budget: float, command: Command = stage_command) -> None:
        self.stages, self.ask, self.command = tuple(stages), ask, command
        self._ends = time.monotonic() + budget
        self.record = record.new(ask.rehearsal, ask.seed, ask.small)
        self._beside: Running | None = None

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._ends - time.monotonic()

    @property
    def _useless(self) -> str:
        """Why the rest of the visit would measure no GPU; its time is dear."""
        return str(self.record["stages"].get("facts", {}).get("found", {}).get("useless", ""))

    def run(self) -> dict[str, Any]:
        """Run all stages that fit."""
        self.ask.output.mkdir(parents=True, exist_ok=True)
        ahead = [stage for stage in self.stages if not stage.alongside]
        affordable_now = affordable(self.stages, self.left, self.ask.rehearsal)
        try:
            for stage in affordable_now:
                if stage.alongside:
                    self._beside = Running.start(stage, self.ask, min(stage.limit, self.left), self.command)
            while ahead and not self._useless:
                stage = ahead.pop(0)
                self._one(stage, ahead)
            if self._useless:
                _say(self._useless)
            else:
                self._join()
        finally:
            if self._beside is not None:
                self._beside.end()
        return self.record

    def _one(self, stage: Stage, later: list[Stage]) -> None:
        if stage.needs_bundle:
            self._join()
            if not self._has_bundle():
                return self._note(stage, {"status": "skipped", "why": "there is no bundle to run"})
        kept = affordable([stage, *later], self.left, self.ask.rehearsal)
        if stage not in kept:
            return self._note(stage, {"status": "dropped", "why": f"{self.left:.0f} s of the budget were left"})
        limit = granted(stage, kept[1:], self.left, self.ask.rehearsal)
        _say(f"{stage.name}: {stage.what} (at most {limit:.0f} s, {self.left:.0f} s left)")
        running = Running.start(stage, self.ask, limit, self.command)
        try:
            told = running.finish()
        finally:
            running.end()
        return self._note(stage, told)

    def _join(self) -> None:
        """Wait for the stage that runs alongside."""
        if self._beside is not None:
            _say(f"waiting for {self._beside.stage.name}") if not self._beside.over else None
            self._note(self._beside.stage, self._beside.finish())
            self._beside = None

    def _has_bundle(self) -> bool:
        made = self.record["stages"].get("bundle", {})
        return bool(made.get("status") == "done")

    def _note(self, stage: Stage, told: dict[str, Any]) -> None:
        self.record["stages"][stage.name] = told
        found = told.get("found", {})
        self.record["device"] = found.get("device") or self.record["device"]
        self.record["model"] = found.get("model") or self.record["model"]
        _say(f"{stage.name}: {told['status']}" + (f" after {told['seconds']:.0f} s" if "seconds" in told else ""))
        if told["status"] == "failed":
            _say(told["why"])
        self.write()

    def write(self) -> None:
        """Write JSON, table and log as they stand."""
        self.record["stages"] = {
            stage.name: self.record["stages"][stage.name]
            for stage in self.stages
            if stage.name in self.record["stages"]
        }
        record.save(self.record, self.ask.output)
        name = record.slug(self.record)
        (self.ask.output / f"gpu.{name}.md").write_text(self._table(), encoding="utf-8")
        logs = [self.ask.cache / "stages" / f"{stage.name}.log" for stage in self.stages]
        text = "".join(f"==== {log.stem}\n{_end_of(log)}\n" for log in logs if log.exists())
        (self.ask.output / f"gpu.{name}.log").write_text(text, encoding="utf-8")

    def _table(self) -> str:
        try:
            return table.markdown(self.record)
        except Exception as error:  # half a row of a stage that died must not end the visit
            return (
                f"The table could not be made: {type(error).__name__}: {error}. The JSON beside it holds everything.\n"
            )


def _end_of(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return text[-LOG_BYTES:]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
