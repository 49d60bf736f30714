"""``scgpt-infer verify``: proves on this machine that a bundle gives the vectors that it was sealed with.

`scgpt_runtime.verify` measures; this module prints.
"""

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from scgpt_infer.cli.options import device_option, json_option
from scgpt_infer.options import CHOICES

if TYPE_CHECKING:
    from scgpt_runtime.verify import VerifyResult

__all__ = ["command"]

FAILED = 2


@click.command("verify", short_help="Prove a bundle on this machine.")
@click.argument("bundle")
@click.option(
    "--provider", type=click.Choice(CHOICES["provider"]), default="auto", show_default=True, help="What runs the model."
)
@click.option(
    "--precision",
    type=click.Choice([word for word in CHOICES["precision"] if word != "auto"]),
    help="One only.  [default: all of the bundle]",
)
@click.option("--expect", metavar="sha256:HEX", help="Digest that the bundle must have, as inspect tells it.")
@device_option
@json_option
def command(bundle: str, provider: str, precision: str | None, expect: str | None, device: str, as_json: bool) -> int:
    """Run the golden cells of BUNDLE (a folder, a zip, or demo) here and compare.

    The tokens must be equal bit for bit, and each precision's worst cell must lie within its limit of the fp32
    reference. Needs no PyTorch. Exit code 2 when something fails, or the bundle is not the one of --expect.
    """
    from scgpt_infer.models import lasting_cache, resolve
    from scgpt_runtime.verify import verify

    opened = resolve(bundle)
    if expect is not None:
        opened.check_digest(expect)
    results = verify(opened, provider, precision, lasting_cache(), device)
    if as_json:
        click.echo(json.dumps([_plain(result) for result in results], indent=2))
    else:
        click.echo("\n".join(_line(result) for result in results))
    return 0 if all(result.passed for result in results) else FAILED


def _line(result: "VerifyResult") -> str:
    tokens = "tokens equal" if result.tokens_equal else "TOKENS DIFFER"
    verdict = "passed" if result.passed else "FAILED"
    if result.error:
        return f"{verdict}  {result.precision:<5} {result.provider}: {result.error}"
    return (
        f"{verdict}  {result.precision:<5} {tokens}; {result.measure} {result.worst:.1e} "
        f"(limit {result.limit:.2g}, {result.cells} cells, {result.provider})"
    )


def _plain(result: "VerifyResult") -> dict[str, Any]:
    """Fields for JSON, which has no infinity."""
    worst = result.worst if math.isfinite(result.worst) else None
    return asdict(result) | {"worst": worst, "passed": result.passed}
