"""``scgpt-infer merge``: folders of parts in, the output that they are of out.

Reads the words and prints; `scgpt_infer.merging` does the work.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scgpt_infer.cli.embed import INCOMPLETE, SHOWN
from scgpt_infer.cli.options import json_option, path_type, quiet_option
from scgpt_infer.cli.progress import Progress, clock

if TYPE_CHECKING:
    from scgpt_infer.merging import Merged

__all__ = ["command"]

_EXAMPLES = """\b
Examples:
  scgpt-infer embed atlas.h5ad --model human -o atlas.npy --shard 0/3      on three machines, 0/3 to 2/3
  scgpt-infer merge atlas.npy.parts -o atlas.npy                           where they share a disk
  scgpt-infer merge a/atlas.npy.parts b/atlas.npy.parts -o atlas.zarr      where they do not
"""


@click.command("merge", short_help="Parts and shards become one output.", epilog=_EXAMPLES)
@click.argument("folders", nargs=-1, required=True, type=path_type)
@click.option("--output", "-o", type=path_type, required=True, help="Where to write; the suffix says the format.")
@click.option(
    "--allow-mixed", is_flag=True, help="Take parts of several models, providers or precisions; the record tells it."
)
@click.option("--allow-missing", is_flag=True, help="Rows that no part has become NaN; the record tells it.")
@click.option(
    "--cells",
    multiple=True,
    type=path_type,
    help="Where the cells are now, for .h5ad and .zarr, which keep their tables; again for each of several files.  "
    "[default: where they were]",
)
@click.option("--obs-only", is_flag=True, help="Leave the matrix out of an .h5ad output.")
@quiet_option
@json_option
def command(
    folders: tuple[Path, ...],
    output: Path,
    allow_mixed: bool,
    allow_missing: bool,
    cells: tuple[Path, ...],
    obs_only: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Put the parts in FOLDERS (OUTPUT.parts of each shard or machine) together.

    No row may be missing, and none twice unless both are alike; every part is compared with its sha256. The folders
    stay as they are. The exit code is 3 where rows are missing, or files of a set could not be read.
    """
    from scgpt_infer.merging import MergeOptions, merge

    how = MergeOptions(allow_mixed, allow_missing, cells or None, obs_only)
    if quiet:
        merged = merge(folders, output, how)
    else:
        with Progress("merge") as progress:
            merged = merge(folders, output, how, progress)
    for note in merged.notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        click.echo(merged.to_json())
    elif not quiet:
        click.echo(_report(merged))
    return 0 if merged.is_whole else INCOMPLETE


def _report(merged: "Merged") -> str:
    """What was made, for people."""
    folders = f"{len(merged.folders)} folder{'s' if len(merged.folders) > 1 else ''}"
    lines = [
        f"{merged.n_cells:,} cells of {folders} merged in {clock(merged.wall_seconds)}",
        f"  output     {merged.output}, {merged.key}, {merged.dim} wide",
        f"  parts      sha256 {merged.parts_sha256[:16]}; the folders are kept",
    ]
    lines += [f"  mixed      {name} {told}" for name, told in merged.mixed.items()]
    if merged.n_twice:
        lines.append(f"  twice      {merged.n_twice:,} cells were in two folders, alike")
    if merged.n_missing:
        lines.append(f"  missing    {merged.n_missing:,} cells are in no folder")
    if merged.n_bad_files:
        lines.append(f"  files      {merged.n_bad_files:,} of the set could not be read; their cells are missing")
    if merged.n_bad:
        lines += [f"{merged.n_bad:,} cells have no result (NaN):"]
        lines += [f"  {count:,} x {reason}" for reason, count in merged.reasons.items()]
        lines += [f"  row {cell.row} ({cell.name}): {cell.reason}" for cell in merged.bad[:SHOWN]]
    return "\n".join(lines)
