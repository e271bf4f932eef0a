"""`hms-bus reply`."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import click

from hms_bus.bus import Message
from hms_bus.cli.bodies import Kind, fill, read_body, to_payload
from hms_bus.cli.commands import command
from hms_bus.cli.connecting import OTHER_BUS, load, make_bus, require_others
from hms_bus.cli.options import PATTERN, bus_options, kind_option, template_option
from hms_bus.cli.records import payload_bytes, payload_text
from hms_bus.cli.running import run
from hms_bus.cli.screen import note
from hms_bus.errors import StatusError, UsageError

Answer = Callable[[Message], Awaitable[Any]]

_MAX_ERROR_TEXT = 1000


@command(
    "reply",
    examples="""
    hms-bus reply quotes.get '{"price": 42}' --bus ipc://agents
    hms-bus reply test.echo --echo --bus ipc://agents
    hms-bus reply text.upper --command "tr a-z A-Z" --bus ipc://agents
    hms-bus reply 'files.{name}.size' --command 'wc -c < "$HMS_CAPTURE_name"' --bus ipc://agents
    """,
)
@click.argument("topic", type=PATTERN)
@click.argument("body", required=False)
@click.option("--echo", is_flag=True, help="Answer with the payload of the request.")
@click.option(
    "--command",
    "program",
    metavar="CMD",
    help="Answer with what this shell command prints. The payload is its stdin; HMS_TOPIC, HMS_ID, "
    "HMS_SOURCE, HMS_TYPE and HMS_CAPTURE_<name> tell of the request.",
)
@template_option
@kind_option
@click.option("-c", "-n", "--count", type=click.IntRange(1), help="End after so many requests.")
@click.option("--group", default="q", help="Share the requests with this group. [default: q]")
@click.option("--each", is_flag=True, help="In no group: get every request (`req --replies`).")
@click.option("-q", "--quiet", is_flag=True, help="Do not report requests on stderr.")
@bus_options
def reply(
    *,
    topic: str,
    body: str | None,
    echo: bool,
    program: str | None,
    template: bool,
    kind: Kind,
    count: int | None,
    group: str,
    each: bool,
    quiet: bool,
    settings: Mapping[str, Any],
    config: str | None,
) -> None:
    """Answer the requests on TOPIC, a topic or pattern, until Ctrl-C.

    Give exactly one of BODY (itself, @FILE or -), --echo and --command. A command that fails
    answers with the error INTERNAL and what it wrote on stderr. It is killed when the caller
    leaves.

    It needs a bus that other processes can join, such as --bus ipc://agents: direct:// stays within
    one process.
    """
    if (body is not None) + echo + (program is not None) != 1:
        raise UsageError("say what to answer: one of BODY, --echo and --command")
    chosen = load(settings, config)
    require_others(
        chosen,
        topic,
        "answering requests of",
        instead=f"serve from inside it; {OTHER_BUS}",
    )
    if echo:
        answer: Answer = _echo
    elif program is not None:
        answer = _by_command(program, kind)
    else:
        answer = _constant(read_body(body), kind, template=template)

    async def serve() -> None:
        bus = make_bus(chosen)
        done = asyncio.Event()
        served = 0

        @bus.serve(topic, group=None if each else group)
        async def handle(message: Message) -> Any:
            nonlocal served
            served += 1
            if not quiet:
                note(f"{message.topic} from {message.source}: {payload_text(message.envelope)}")
            try:
                return await answer(message)
            finally:
                if served == count:
                    done.set()

        async with bus:
            if not quiet:
                note(f"answering on {topic} at {chosen.url}")
            await done.wait()

    run(serve)


async def _echo(message: Message) -> Any:
    return message.data


def _constant(body: bytes | None, kind: Kind, *, template: bool) -> Answer:
    count = 0
    if template:
        fill(body or b"", 1)  # a wrong template is found now, not by who asks

    async def answer(message: Message) -> Any:
        del message
        nonlocal count
        count += 1
        return to_payload(fill(body or b"", count) if template else body, kind)

    return answer


def _by_command(program: str, kind: Kind) -> Answer:
    async def answer(message: Message) -> Any:
        process = await asyncio.create_subprocess_shell(
            program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | _request_variables(message),
            start_new_session=True,
        )
        try:
            output, problem = await process.communicate(payload_bytes(message.envelope))
        finally:
            if process.returncode is None:
                # The whole group: the shell's own children would go on without it.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            text = problem.decode(errors="replace").strip()[:_MAX_ERROR_TEXT]
            raise StatusError(
                "INTERNAL", text or f"the command ended with status {process.returncode}"
            )
        return to_payload(output, kind)

    return answer


def _request_variables(message: Message) -> dict[str, str]:
    known = {
        "HMS_TOPIC": message.topic,
        "HMS_ID": message.id,
        "HMS_SOURCE": message.source,
        "HMS_TYPE": message.type,
    }
    return known | {f"HMS_CAPTURE_{name}": text for name, text in message.captures.items()}
