"""The program `hms-bus`: its commands, each imported when it is called."""

from typing import NoReturn

import click

from hms_bus.__about__ import __version__
from hms_bus.cli.colour import wants_colour
from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "demo": ("hms_bus.cli.demo.command:demo", "Run a team of agents on real input."),
    "pub": ("hms_bus.cli.pub:pub", "Publish messages."),
    "sub": ("hms_bus.cli.sub:sub", "Print messages as they are published."),
    "req": ("hms_bus.cli.req:req", "Ask an agent and print its answer."),
    "reply": ("hms_bus.cli.reply:reply", "Answer requests from the shell."),
    "hub": ("hms_bus.cli.hub:hub", "Join the processes of this machine; look into hubs."),
    "log": ("hms_bus.cli.log:log", "Look into a log, check it, copy it."),
    "replay": ("hms_bus.cli.replay:replay", "Let agents handle a log again; see what differs."),
    "diff": ("hms_bus.cli.analysis.diff:diff", "Tell what differs between two runs."),
    "why": ("hms_bus.cli.analysis.why:why", "Show what caused an event, and what followed."),
    "graph": ("hms_bus.cli.analysis.graph:graph", "Draw a conversation."),
    "stats": ("hms_bus.cli.analysis.stats:stats", "Tell rates, sizes and latencies of a run."),
    "bisect": ("hms_bus.cli.analysis.bisect:bisect", "Find the record that breaks an invariant."),
    "durable": ("hms_bus.cli.durable:durable", "Look at durable subscriptions, remove them."),
    "dlq": ("hms_bus.cli.dlq:dlq", "Look at dead letters, deliver them again."),
    "schedule": ("hms_bus.cli.schedule:schedule", "Look at what is sent later, end it."),
    "conformance": ("hms_bus.cli.conformance:conformance", "Check a bus against the semantics."),
    "bench": ("hms_bus.cli.bench:bench", "Measure this installation."),
    "completion": ("hms_bus.cli.completion:completion", "Print a shell's completion script."),
    "version": ("hms_bus.cli.version:version", "Print the version and what is installed."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""One bus for agents, within a process and between those of a machine.

    The bus is chosen by --bus URL, by HMS_BUS_URL, or by hms-bus.toml in the working directory;
    without any of them it is direct://, which stays within one process; ipc://NAME joins the
    processes of one machine. A log is a file: run.db.
    """,
    examples="""
    hms-bus demo                                    a team of agents on real input
    hms-bus sub 'orders.>' --bus ipc://agents       what other processes say
    hms-bus log ls run.db                           what a log holds
    hms-bus log cat run.db --topic 'orders.>' --since 1h
    hms-bus pub orders.created '{"id": 1}' --log run.db
    """,
)
@click.version_option(__version__, prog_name="hms-bus", message="%(prog)s %(version)s")
def cli() -> None:
    """Hold the commands; each is a module of its own."""


def main() -> NoReturn:
    """Run the program with the arguments of the process, and exit."""
    # Otherwise click looks at each stream by itself: colours for a terminal, none for a pipe.
    colour = None if wants_colour() else False
    cli.main(prog_name="hms-bus", complete_var="_HMS_BUS_COMPLETE", color=colour)
