"""Running agents on a record from Python: `rerun` to the end, `open_rerun` step by step."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from itertools import count
from typing import Any, cast

from msgspec import Struct

from hms_bus.abc import Record, Selector
from hms_bus.bus.bus import Bus
from hms_bus.bus.message import Message
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, LogCorruptError
from hms_bus.plugins import open_log
from hms_bus.replay.capturing import sent_later
from hms_bus.replay.comparing import Comparison, compare
from hms_bus.replay.events import EFFECT, Unrecorded
from hms_bus.replay.naming import agent_of, is_named
from hms_bus.replay.settings import Effects, ReplaySettings, check_effects, record_url
from hms_bus.replay.stage import Stage
from hms_bus.replay.transport import registered
from hms_bus.schedules import is_schedule

Agents = Bus | Iterable[Bus] | Mapping[str, Bus] | AbstractAsyncContextManager[Any]
Build = Callable[[str], Agents | Awaitable[Agents]]
"""Makes agents for the bus at a URL: one `Bus` or several, or the scope in which they are open."""

_numbers = count(1)
_MAX_FAILURES = 100


class Failure(Struct, frozen=True, kw_only=True):
    """An exception that a handler raised on the message `cause`."""

    cause: str
    topic: str
    error: BaseException


class Rerun:
    """Agents on a record; made by `open_rerun`.

    `outputs` is what the agents have said since the last `take_outputs`, `failures` what their
    handlers raised, the first 100 of them.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.agents: frozenset[str] = frozenset()
        """Those that take part."""
        self.outputs: list[Envelope] = []
        self.failures: list[Failure] = []
        self.failed = 0
        """How many handlers have failed."""
        self._drops = False
        self.on_output: Callable[[Envelope], None] | None = None
        """Told each output, too. While it is set and all is played at once, none are kept."""
        stage.capture.on_output = self._note_output

    @property
    def unrecorded(self) -> list[Unrecorded]:
        """What the agents asked for and the record does not hold."""
        return self.stage.answering.unrecorded

    @property
    def damage(self) -> LogCorruptError | None:
        """Why the record cannot be read to its end, as far as that was tried.

        What was said behind it, to messages before, is missing where it is compared.
        """
        return self.stage.damage

    def _note_output(self, envelope: Envelope) -> None:
        if self.on_output is not None:
            self.on_output(envelope)
        if not self._drops:
            self.outputs.append(envelope)

    def take_outputs(self) -> list[Envelope]:
        """Return the outputs since the last call, in order."""
        taken = self.outputs[:]
        self.outputs.clear()
        return taken

    async def step(self) -> Record | None:
        """Play the next record to the end; `None` when there is none. Raises as `rerun` does."""
        records = await self.stage.step()
        self.stage.answering.check()
        return records[0] if records else None

    async def play(self) -> None:
        """Play all that is left. Raises as `rerun` does.

        `LogCorruptError` comes when what can be read was played; compare it with what was said.
        """
        self._drops = self.on_output is not None
        await self.stage.play()
        self.stage.answering.check()

    def note_failure(self, error: BaseException, message: Message) -> None:
        """Keep what a handler raised: of the first 100, since a traceback holds a lot."""
        self.failed += 1
        if self.failed <= _MAX_FAILURES:
            self.failures.append(Failure(cause=message.id, topic=message.topic, error=error))


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a rerun.

    `recorded` is what the same agents said in the record, to the messages that were played, in its
    order, and `positions` where each of it stands there; `outputs` is what they say now. Effects
    are in neither, nor are records of what is sent later; the message itself is. `failures` are the
    first 100. `damage` is why the record cannot be read to its end, behind what was played: what
    the agents said there is not in `recorded`.
    """

    outputs: list[Envelope]
    recorded: list[Envelope]
    positions: list[int]
    unrecorded: list[Unrecorded]
    failures: list[Failure]
    played: int
    damage: LogCorruptError | None = None

    def compare(self, *, ignore: Sequence[str] = ()) -> Comparison:
        """Compare what they said with what they say; see `hms_bus.replay.compare`."""
        return compare(self.recorded, self.outputs, ignore=ignore, is_rerun=True)


class Original:
    """Gathers what the agents of a rerun said in the record, to what is played, and where.

    Not flat: it holds these outputs, and the id of each message that was played, since one may have
    caused an output however much later.
    """

    def __init__(self, rerun: Rerun) -> None:
        self.outputs: list[Envelope] = []
        self.positions: list[int] = []
        self._rerun = rerun
        self._played: set[str] = set()
        self._scheduled: set[str] = set()
        """Ids of what was scheduled to be sent once."""
        self._schedules: set[str] = set()
        rerun.stage.on_played = self._note_played
        rerun.stage.on_skipped = self._note

    def _note_played(self, record: Record) -> None:
        if record.envelope.type != EFFECT:  # it causes nothing
            self._played.add(record.envelope.id)
        self._note(record)

    def _note(self, record: Record) -> None:
        envelope = record.envelope
        if is_schedule(envelope):
            self._schedules.add(envelope.id)
        if (message := sent_later(envelope)) is not None:
            # Said when it was scheduled, as it is captured, whether it was sent or not.
            envelope = message
            self._scheduled.add(message.id)
        elif envelope.id in self._scheduled or self._is_sent_by_cron(envelope):
            return
        if (
            envelope.causationid in self._played
            and envelope.type != EFFECT
            and agent_of(envelope.source) in self._rerun.agents
        ):
            self.outputs.append(envelope)
            self.positions.append(record.position)

    def _is_sent_by_cron(self, envelope: Envelope) -> bool:
        cause = envelope.causationid
        return cause in self._schedules and envelope.id.startswith(f"{cause}-")


async def rerun(
    run: str,
    build: Build,
    *,
    selector: Selector | None = None,
    only: Iterable[str] = (),
    effects: Effects = "recorded",
    remap: Mapping[str, str] | None = None,
) -> Outcome:
    """Let the agents that `build` makes handle the record `run`, a file or a log's URL.

    Nothing leaves the process, and nothing is appended. `only` names those that take part, by
    source or its last part. Takes memory for all outputs and the id of each message played, unlike
    `open_rerun` with `on_output`. Raises `UnrecordedError` with `effects="strict"` for what the
    record lacks, `LogError`, `LogCorruptError`, `ConfigError`, and what `build` raises.
    """
    settings = ReplaySettings(
        log=record_url(run),
        selector=selector or Selector(),
        only=frozenset(only),
        effects=check_effects(effects),
        remap=dict(remap or {}),
    )
    async with open_rerun(settings, build) as running:
        original = Original(running)
        await running.play()
        with suppress(LogCorruptError):  # the outcome tells of it
            await running.stage.pass_rest(settings.ahead)
        return Outcome(
            outputs=running.take_outputs(),
            recorded=original.outputs,
            positions=original.positions,
            unrecorded=running.unrecorded,
            failures=running.failures,
            played=running.stage.played,
            damage=running.damage,
        )


@asynccontextmanager
async def open_rerun(settings: ReplaySettings, build: Build) -> AsyncGenerator[Rerun]:
    """Open the record, build the agents and let them listen; the scope closes all.

    Raises `ConfigError` when nothing that `build` made takes part.
    """
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(settings.log))
        stage = Stage(settings, log)
        stack.push_async_callback(stage.close)
        await stack.enter_async_context(stage.watched())
        url = await stack.enter_async_context(registered(str(next(_numbers)), stage))
        running = Rerun(stage)
        buses = await _opened(build(url), running, stack)
        agents = {agent_of(bus.source) for bus in buses}
        running.agents = frozenset(
            agent for agent in agents if not settings.only or is_named(agent, settings.only)
        )
        if not running.agents:
            known = ", ".join(sorted(agents)) or "none"
            raise ConfigError(f"no agent takes part; built were: {known}")
        yield running


async def _opened(
    built: Agents | Awaitable[Agents], running: Rerun, stack: AsyncExitStack
) -> list[Bus]:
    """Open what was built, unless it is open; return the buses."""
    if inspect.isawaitable(built):
        built = await built
    if isinstance(built, AbstractAsyncContextManager) and not isinstance(built, Bus):
        built = cast("Agents", await stack.enter_async_context(built))
    buses = _buses(built)
    for bus in buses:
        bus.on_error(running.note_failure)
        if not bus.is_open:
            await stack.enter_async_context(bus)
        if not bus.config.url.startswith("replay:"):
            raise ConfigError(
                f"{bus.source} is on {bus.config.url!r}: build it with the URL that it is given"
            )
    return buses


def _buses(built: Any) -> list[Bus]:
    if isinstance(built, Bus):
        return [built]
    if isinstance(built, Mapping):
        built = cast("Mapping[str, Any]", built).values()
    buses = list(cast("Iterable[Any]", built)) if isinstance(built, Iterable) else [built]
    for bus in buses:
        if not isinstance(bus, Bus):
            raise ConfigError(f"the function built {bus!r:.80}: return a Bus, or several")
    return buses
