"""MCAP (https://mcap.dev/spec): a container for timestamped messages that robotics tools read.

A topic is a channel, its messages are events in the CloudEvents JSON format; the log time is when
the event was recorded, the publish time the event's own. The sequence is the position, modulo 2^32.
"""

from collections.abc import Iterator
from typing import IO

import msgspec

from hms_bus import jsonformat
from hms_bus.abc import Record
from hms_bus.errors import DecodeError, UsageError
from hms_bus.ids import parse_time
from hms_bus.log.tools.extras import need
from hms_bus.log.tools.streams import Counted

_EXTRA = {"extra": "mcap", "purpose": "MCAP"}
_SCHEMA_NAME = "io.cloudevents.v1.CloudEvent"
_ENCODING = "json"
_MOST_CHANNELS = 2**16 - 1
_SCHEMA = msgspec.json.encode(
    {
        "title": _SCHEMA_NAME,
        "type": "object",
        "properties": {
            **{
                name: {"type": "string"}
                for name in ("specversion", "id", "source", "type", "topic", "time", "subject")
            },
            "data": {"type": "object"},
        },
        "required": ["specversion", "id", "source", "type"],
    }
)


class McapWriter:
    """Writes records as MCAP messages; see `hms_bus.log.tools.forms.RecordWriter`."""

    def __init__(self, out: IO[bytes]) -> None:
        self._writer = need("mcap.writer", **_EXTRA).Writer(Counted(out))
        self._writer.start(profile="", library="hms-bus")
        self._schema = self._writer.register_schema(
            name=_SCHEMA_NAME, encoding="jsonschema", data=_SCHEMA
        )
        self._channels: dict[str, int] = {}

    def write(self, record: Record) -> None:
        """Take the next record. Raises `UsageError` for more topics than MCAP has numbers for."""
        envelope = record.envelope
        topic = envelope.topic
        channel = self._channels.get(topic)
        if channel is None:
            if len(self._channels) == _MOST_CHANNELS:
                raise UsageError(
                    f"an MCAP file has room for {_MOST_CHANNELS} topics, and there are more: "
                    "export some of them (--topic), or choose another format"
                )
            channel = self._channels[topic] = self._writer.register_channel(
                topic=topic, message_encoding=_ENCODING, schema_id=self._schema
            )
        published = record.recorded_ns if envelope.time is None else parse_time(envelope.time)
        self._writer.add_message(
            channel_id=channel,
            log_time=record.recorded_ns,
            publish_time=max(published, 0),
            sequence=record.position % 2**32,
            data=jsonformat.encode(envelope),
        )

    def finish(self) -> None:
        """Write the index."""
        self._writer.finish()


def read_mcap(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the messages of all channels in the order of the file, which need not be whole.

    Raises `DecodeError` where it is damaged.
    """
    records = need("mcap.records", **_EXTRA)
    reader = need("mcap.stream_reader", **_EXTRA).StreamReader(source, validate_crcs=True)
    try:
        for record in reader.records:
            if isinstance(record, records.Message):
                yield bytes(record.data)
    except (*_failures(), ValueError, EOFError) as error:
        raise DecodeError(
            f"this is no MCAP file, or damaged: {str(error) or 'it ends too early'}",
            reason="malformed",
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    exceptions = need("mcap.exceptions", **_EXTRA)
    return (exceptions.McapError,)
