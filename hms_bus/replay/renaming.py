"""Other names for the topics and agents of a record (`--remap`)."""

from collections.abc import Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from hms_bus import jsonformat
from hms_bus.abc import Record
from hms_bus.bounces import reply_topic
from hms_bus.envelope import Envelope
from hms_bus.errors import DecodeError
from hms_bus.replay.naming import agent_of
from hms_bus.schedules import Schedule, is_schedule


class Renaming:
    """Gives the topics and sources of records the names that `remap` has for them.

    A topic's name is also that of its replies, and that of an event's type where the type is no
    other. An agent is renamed whatever random digits its source ends in. In a schedule its message
    is renamed, too.
    """

    def __init__(self, remap: Mapping[str, str]) -> None:
        self._topics = {reply_topic(old): reply_topic(new) for old, new in remap.items()} | {
            **remap
        }
        self._sources = remap
        self.is_needed = bool(remap)
        """Whether it changes anything."""

    def record(self, record: Record) -> Record:
        """Return the record with the new names."""
        return replace(record, envelope=self._envelope(record.envelope))

    def _envelope(self, envelope: Envelope) -> Envelope:
        if is_schedule(envelope):
            envelope = self._schedule(envelope)
        topic, source = envelope.topic, envelope.source
        new_topic = self._topics.get(topic, topic)
        by_agent = self._sources.get(agent_of(source), source)
        return envelope.replace(
            topic=new_topic,
            type=new_topic if envelope.type == topic else envelope.type,
            source=self._sources.get(source, by_agent),
        )

    def _schedule(self, record: Envelope) -> Envelope:
        with suppress(DecodeError):  # anybody may write what is no schedule
            schedule = record.decode(Schedule)
            message = jsonformat.encode(self._envelope(schedule.message()))
            renamed = replace(schedule, envelope=msgspec.json.decode(message))
            return jsonformat.decode(jsonformat.encode(record.replace(data=renamed)))
        return record
