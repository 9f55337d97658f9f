"""`facemargin pack`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.commands.console import user_errors


@click.command(
    epilog="Example: facemargin pack faces_emore/train.rec --output packed/emore --max-broken 10"
    " && facemargin train CONFIG task.sources='[{packed: packed/emore}]'"
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to make; must not exist.")
@click.option("--size", type=click.IntRange(8, 1024), default=112, show_default=True, help="Side of the crops.")
@click.option("--resize", is_flag=True, help="Bring square images of other sizes to --size; else they are an error.")
@click.option("--max-broken", type=click.IntRange(0), default=0, show_default=True, help="Skipped at most, a source.")
@click.option("--apart", is_flag=True, help="No two sources share people: tell their identities apart by 0-, 1- ...")
def pack(sources: tuple[str, ...], output: Path, size: int, resize: bool, max_broken: int, apart: bool) -> None:
    """Decode SOURCES once into one array file, which training then reads without decoding.

    A SOURCE is a folder of IDENTITY/NAME.webp, a list file, InsightFace's train.rec, packed data, or tars: a
    glob or {000..127} in quotes, http(s):// or pipe:COMMAND. Several are packed into one.
    """
    from training.data.packing import pack as write
    from training.data.sources import DataError, parse_sources

    with user_errors(DataError):
        document = write(parse_sources(sources, max_broken, apart=apart), output, size, resize=resize)
    summary = {"images": document.images, "size": document.size, "broken": document.broken}
    click.echo(json.dumps({"output": str(output), **summary}))
