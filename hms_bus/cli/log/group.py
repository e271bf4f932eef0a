"""The group `hms-bus log`."""

import click

from hms_bus.cli.commands import LazyGroup

COMMANDS = {
    "ls": ("hms_bus.cli.log.survey:ls", "List the topics."),
    "cat": ("hms_bus.cli.log.cat:cat", "Print records."),
    "info": ("hms_bus.cli.log.survey:info", "Tell size, span, sources and types."),
    "tail": ("hms_bus.cli.log.cat:tail", "Print the last records, and follow."),
    "verify": ("hms_bus.cli.log.verify:verify", "Check the hash chain, a head, a seal."),
    "seal": ("hms_bus.cli.log.sealing:seal", "Sign the head."),
    "keygen": ("hms_bus.cli.log.sealing:keygen", "Make keys to seal with."),
    "doctor": ("hms_bus.cli.log.repair:doctor", "Say what is wrong, and what to do."),
    "recover": ("hms_bus.cli.log.repair:recover", "Save what can be read of a damaged log."),
    "backup": ("hms_bus.cli.log.copies:backup", "Copy a log, also one in use."),
    "filter": ("hms_bus.cli.log.copies:filter_", "Write a part into a new log."),
    "merge": ("hms_bus.cli.log.copies:merge", "Write several logs into one."),
    "split": ("hms_bus.cli.log.copies:split", "Write one log into several."),
    "compact": ("hms_bus.cli.log.shrink:compact", "Leave out what is old or outdated."),
    "redact": ("hms_bus.cli.log.shrink:redact", "Take payloads out for good."),
    "export": ("hms_bus.cli.log.transfer:export", "Write events for other programs."),
    "import": ("hms_bus.cli.log.transfer:import_", "Append events to a log."),
}


@click.group(
    "log",
    cls=LazyGroup,
    lazy=COMMANDS,
    help="""Look into a log, check it, copy it, mend it.

    A log is named by its file (run.db) or URL (sqlite:run.db); without a name it is the one of the
    configuration (HMS_BUS_LOG, hms-bus.toml). Only `import`, `redact` and `compact --in-place`
    write to it. All others, but `recover`, may be used while another process is writing.
    """,
    examples="""
    hms-bus log ls run.db
    hms-bus log cat run.db --topic 'orders.>' --since 1h --format json
    hms-bus log tail -f run.db
    hms-bus log verify run.db --head run.head
    """,
)
def log() -> None:
    """Hold the commands; they are in the modules beside this one."""
