"""The group `hms-bus hub`, which without a command of its own runs a hub."""

from pathlib import Path

import click
from click.core import ParameterSource

from hms_bus.cli.commands import LazyGroup, debug_option, end_with_status
from hms_bus.cli.options import LOG

COMMANDS = {
    "status": ("hms_bus.cli.hub.status:status", "Show clients, subscriptions, queues, drops."),
    "top": ("hms_bus.cli.hub.top:top", "Watch clients and rates."),
    "ls": ("hms_bus.cli.hub.ls:ls", "List the hubs of this user."),
    "stop": ("hms_bus.cli.hub.stop:stop", "End a hub in order."),
}


@click.group(
    "hub",
    cls=LazyGroup,
    lazy=COMMANDS,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND [ARGS]...]",
    help="""Run the hub that joins the processes of this machine, until Ctrl-C.

    Agents come to it with Bus("ipc://NAME"), and the other commands with --bus ipc://NAME. Nobody
    has to start it: the first client that finds none starts one, which ends when it is not needed
    any more. One that is started here stays, and has its log and its limits from here.

    Ctrl-C and SIGTERM drain: what was sent is delivered and committed, then the clients are told.
    """,
    examples="""
    hms-bus hub                                             for ipc://agents
    hms-bus hub --listen ipc://shop --log shop.db
    hms-bus hub --config hub.toml                           limits, tokens and their rights
    hms-bus hub status shop
    hms-bus hub top shop
    """,
    endings={
        0: "it worked; a hub has drained after Ctrl-C, SIGTERM or `hub stop`",
        130: "interrupted (Ctrl-C); a hub: by the second one, before it had drained",
        143: "ended by SIGTERM; a hub: as above",
    },
)
@click.option(
    "--listen",
    metavar="URL",
    help="ipc://NAME or ipc:///PATH. [default: `listen` of hub.toml; HMS_BUS_URL or hms-bus.toml, "
    "if that is ipc://; ipc://agents]",
)
@click.option(
    "--log",
    type=LOG,
    help="The log to keep, a file or URL: run.db. [default: what the first client with one names]",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings of the hub: hub.toml, with limits and tokens.",
)
@click.option("--tcp", is_flag=True, help="Listen on loopback TCP in place of a Unix socket.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say where it listens.")
@click.pass_context
def hub(
    ctx: click.Context,
    *,
    listen: str | None,
    log: str | None,
    config: Path | None,
    tcp: bool,
    quiet: bool,
) -> None:
    """Run a hub, unless a command follows."""
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return
    from hms_bus.cli.hub.serving import serve_here  # noqa: PLC0415 - the commands do not need it

    end_with_status(
        ctx, lambda: serve_here(listen=listen, log=log, config=config, tcp=tcp, quiet=quiet)
    )


hub.params.append(debug_option())


def _refuse_options(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        name = parameter.name
        if name and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            ctx.fail(
                f"{parameter.opts[-1]} is for running a hub: write options of "
                f"{ctx.invoked_subcommand!r} behind it"
            )
