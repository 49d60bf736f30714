"""The command line as a whole: exit codes, where errors go, and how fast help is."""

import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from scgpt_infer import cli
from scgpt_infer.interrupts import Stopped, Terminated
from scgpt_runtime.errors import CellsError, InternalError, ParityError, ProviderError

HEAVY = ("numpy", "anndata", "onnxruntime", "numba", "pandas", "torch", "h5py")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Give ``scgpt-infer doctor`` a body of the test's choice."""

    def install(body):
        command = click.Command("doctor", callback=body)
        monkeypatch.setattr("scgpt_infer.cli.doctor.command", command)

    return install


def raiser(error: BaseException):
    def body():
        raise error

    return body


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.COMMANDS)])
def test_help_imports_nothing_heavy(command: tuple[str, ...]):
    script = (
        "import sys, json; from scgpt_infer.cli import run; code = run(sys.argv[1:]);"
        f"print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    assert "Usage: scgpt-infer" in done.stdout


def test_help_is_instant_when_warm():
    command = [sys.executable, "-m", "scgpt_infer", "--help"]
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CellsError("no cells"), 2),
        (ProviderError("no cuda"), 2),
        (ParityError("too far"), 3),
        (InternalError("odd."), 1),
    ],
)
def test_an_error_of_ours_is_a_message_and_its_exit_code(failing, capsys, error, code):
    failing(raiser(error))
    assert cli.run(["doctor"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: {error}\n"


def test_an_unexpected_error_asks_for_a_report_and_hides_its_traceback_unless_asked(failing, capsys):
    failing(raiser(KeyError("gene")))
    assert cli.run(["doctor"]) == 1
    message = capsys.readouterr().err
    assert "This is a bug in scgpt-infer" in message
    assert "Traceback" not in message
    assert cli.run(["--debug", "doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_is_not_called_a_bug(failing, capsys):
    failing(raiser(OSError(28, "No space left on device", "/data/out.h5ad")))
    assert cli.run(["doctor"]) == 2
    message = capsys.readouterr().err
    assert "No space left on device: /data/out.h5ad" in message
    assert "bug" not in message


@pytest.mark.parametrize(
    ("kind", "said", "code"),
    [
        (KeyboardInterrupt, "interrupted", 130),
        (lambda: Terminated(signal.SIGTERM), "ended by SIGTERM", 143),
        (lambda: Stopped(signal.SIGUSR1), "stopped as SIGUSR1 asked", 75),
    ],
)
def test_an_interruption_has_its_exit_code_and_says_what_was_left(failing, capsys, kind, said, code):
    failing(raiser(kind()))
    assert cli.run(["doctor"]) == code
    assert capsys.readouterr().err.strip() == f"error: {said}; nothing partial was left behind"

    noted = kind()
    noted.add_note("3 of 4 ranges are kept.")
    failing(raiser(noted))
    assert cli.run(["doctor"]) == code
    assert capsys.readouterr().err.strip() == f"error: {said}; 3 of 4 ranges are kept."


def test_a_real_interrupt_says_what_was_left_though_it_is_raised_again(failing, capsys):
    def body():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            error.add_note("3 of 4 ranges are kept.")
            raise

    failing(body)
    assert cli.run(["doctor"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted; 3 of 4 ranges are kept."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_real_signal_ends_the_process_and_runs_cleanup(number: signal.Signals, code: int):
    script = """
import click, sys, time
from scgpt_infer import cli
import scgpt_infer.cli.doctor as doctor

def body():
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        print("cleaned", flush=True)

doctor.command = click.Command("doctor", callback=body)
sys.exit(cli.run(["doctor"]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == "cleaned\n"
    assert "Traceback" not in err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_swallows_ends_the_command_all_the_same(failing, capsys):
    class Owner:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    failing(lambda: Owner() and None)
    assert cli.run(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err
    failing(lambda: None)
    assert cli.run(["doctor"]) == 0


def test_an_interrupt_that_comes_out_as_another_error_is_an_interrupt(failing, capsys):
    def body():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    failing(body)
    assert cli.run(["doctor"]) == 130
    assert "initialization" not in capsys.readouterr().err


def test_a_returned_number_is_the_exit_code(failing):
    failing(lambda: 3)
    assert cli.run(["doctor"]) == 3


def test_an_unknown_command_or_option_is_a_usage_error(capsys):
    assert cli.run(["embedd"]) == 2
    assert cli.run(["embed", "--nonsense"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_version_is_the_installed_one(capsys):
    from scgpt_infer import __version__

    assert cli.run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
