"""`hms-bus version`."""

import importlib.metadata
import platform

import click

from hms_bus.__about__ import __version__
from hms_bus.cli.commands import command

_LIBRARIES = ("msgspec", "cbor2", "protobuf", "aiosqlite", "nats-py", "pydantic", "uvloop")


@command(
    "version",
    examples="""
    hms-bus version
    hms-bus version -v          for a bug report
    """,
)
@click.option("-v", "--verbose", is_flag=True, help="Python, system, libraries and plug-ins too.")
def version(*, verbose: bool) -> None:
    """Print the version of hms-bus."""
    click.echo(f"hms-bus {__version__}")
    if not verbose:
        return
    from hms_bus.plugins import names  # noqa: PLC0415 - the plain form has no use for it

    click.echo(f"python {platform.python_version()} ({platform.python_implementation()})")
    click.echo(f"system {platform.platform()}")
    for library in _LIBRARIES:
        click.echo(f"{library} {_installed(library)}")
    for kind in ("transports", "codecs", "logs"):
        click.echo(f"{kind}: {', '.join(names(kind))}")


def _installed(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
