"""`hms-bus hub stop`."""

import asyncio

import click

from hms_bus.cli.commands import command
from hms_bus.cli.endings import NEGATIVE, OK
from hms_bus.cli.hub.asking import ask_status
from hms_bus.cli.hub.locks import Watch
from hms_bus.cli.hub.naming import hub_url
from hms_bus.cli.hub.options import hub_argument
from hms_bus.cli.options import DURATION
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.ipc.places import find_place
from hms_bus.plugins import parse_address
from hms_bus.transports.ipc.asking import ask


@command(
    "stop",
    examples="""
    hms-bus hub stop
    hms-bus hub stop shop
    HMS_BUS_TOKEN=... hms-bus hub stop shop             where tokens are asked for: an admin's
    """,
    endings={1: "no hub listens there, or it is still draining after --timeout"},
)
@hub_argument
@click.option(
    "--timeout", type=DURATION, default=30.0, help="How long to wait for its end. [default: 30s]"
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when it worked.")
def stop(*, name: str | None, timeout: float, quiet: bool) -> int:
    """Let the hub NAME drain and end, and wait for that.

    What was sent is delivered and committed first. Clients that have still something to say come
    back, and start another hub.
    """
    url = hub_url(name)

    async def end() -> int:
        pid = (await ask_status(url)).hub.pid
        with Watch(find_place(parse_address(url).path).lock) as watch:
            await ask(url, "stop")
            try:
                async with asyncio.timeout(timeout):
                    await watch.released()
            except TimeoutError:
                note(f"process {pid} is still draining")
                return NEGATIVE
        if not quiet:
            click.echo(f"stopped {parse_address(url).bare_url}, process {pid}")
        return OK

    return run(end)
