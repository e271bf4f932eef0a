"""`hms-bus completion`."""

import click
from click.shell_completion import get_completion_class

from hms_bus.cli.commands import command


@command(
    "completion",
    examples="""
    hms-bus completion bash > ~/.local/share/bash-completion/completions/hms-bus
    hms-bus completion zsh > "${fpath[1]}/_hms-bus"
    hms-bus completion fish > ~/.config/fish/completions/hms-bus.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and files."""
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101 - click brings the three
    script = complete(ctx.find_root().command, {}, "hms-bus", "_HMS_BUS_COMPLETE")
    click.echo(script.source())
