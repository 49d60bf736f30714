"""The command line: words in, an exit code out.

Nothing but click is imported until a command runs, so that every ``--help`` is instant. Results go to
standard output, progress and errors to standard error. Only this package prints or reads the environment.
"""

import errno
import importlib
import sys
import traceback

import click

from scgpt_infer.interrupts import Stopped, Terminated, catch, honour
from scgpt_runtime.errors import ScgptInferError

__all__ = ["commands", "main", "run"]

COMMANDS = (
    "embed",
    "merge",
    "annotate",
    "integrate",
    "multiomic",
    "perturb",
    "impute",
    "grn",
    "index",
    "genes",
    "learn",
    "report",
    "serve",
    "demo",
    "export",
    "triton",
    "inspect",
    "verify",
    "compare",
    "bench",
    "doctor",
)
"""Names of the commands, in the order of the help; each lives in the module of its name."""

INTERRUPTED = 130

_EXAMPLES = """\b
Examples:
  scgpt-infer demo                                        bundled model, bundled real cells
  scgpt-infer export scGPT_human/ -o human                once: a checkpoint becomes a bundle
  scgpt-infer embed cells.h5ad --model human -o out.h5ad
  scgpt-infer annotate cells.csv --model demo -o types.json
  scgpt-infer serve --model human --port 8080
"""


class _LazyCommands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"scgpt_infer.cli.{cmd_name}").command
        return command


@click.group(
    cls=_LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EXAMPLES,
)
@click.version_option(package_name="scgpt-infer", prog_name="scgpt-infer")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def commands(debug: bool) -> None:
    """Inference engine for scGPT: the same cell becomes the same vector, always.

    Exit codes: 0 done (bad cells are listed); 1 a bug in scgpt-infer; 2 bad input or usage, or verify failed;
    3 finished, but something asked for is missing; 75 stopped as SIGTERM or SIGUSR1 asked, with all that was done
    kept: run the same command again; 128 + signal interrupted (Ctrl-C: 130).
    """


def main() -> None:
    """Entry point of the ``scgpt-infer`` command."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Run one command line and say how it ended.

    Parameters
    ----------
    words
        The arguments after the program's name.

    Returns
    -------
    int
        The exit code. Errors have been printed on standard error.
    """
    catch()
    debug = "--debug" in words[: _position_of_command(words)]
    try:
        try:
            outcome = commands.main(args=words, prog_name="scgpt-infer", standalone_mode=False)
        finally:
            honour()  # an interrupt inside an import may be lost, or come out as an ImportError
        return outcome if isinstance(outcome, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as end:
        return _say(f"interrupted; {_left(end)}", INTERRUPTED)
    except Stopped as end:
        return _say(f"stopped as {end} asked; {_left(end)}", end.exit_code)
    except Terminated as end:
        return _say(f"ended by {end}; {_left(end)}", end.exit_code)
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _say(*explain(error))


def explain(error: Exception) -> tuple[str, int]:
    """Message and exit code of an error that ended a command."""
    if isinstance(error, ScgptInferError):
        return " ".join([str(error), *getattr(error, "__notes__", [])]), error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        where = f": {error.filename}" if error.filename else ""
        remedy = ". Make room, or name another place with -o." if error.errno == errno.ENOSPC else ""
        return f"{error.strerror}{where}{remedy}", 2
    if isinstance(error, MemoryError):
        return "out of memory. Try a smaller --batch-tokens.", 2
    return (
        f"{type(error).__name__}: {error}. This is a bug in scgpt-infer: please report it, with what "
        "`scgpt-infer --debug COMMAND ...` prints.",
        1,
    )


def _left(end: BaseException) -> str:
    """What an interruption left behind, as the notes of it or of the one that it came from say."""
    link: BaseException | None = end
    while link is not None:
        if isinstance(link, KeyboardInterrupt | Terminated) and (notes := getattr(link, "__notes__", [])):
            return " ".join(notes)
        link = link.__cause__ or link.__context__
    return "nothing partial was left behind"


def _say(message: str, exit_code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return exit_code


def _position_of_command(words: list[str]) -> int:
    """Index of the command's name: the first word that is no option."""
    return next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
