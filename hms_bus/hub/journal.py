"""The log of the hub: one writer for all clients, so that order and positions come from one place.

What clients append in one turn of the event loop is committed together, in the order in which it
came, and delivered after the commit in the order of positions.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AsyncExitStack
from hashlib import sha256

from hms_bus import plugins
from hms_bus.abc import EventLog, Receipt, Selector
from hms_bus.errors import BusError, DecodeError, FrameError, UsageError
from hms_bus.hub.appending import Appending, read_append
from hms_bus.hub.failing import failure_of
from hms_bus.hub.seams import Sender
from hms_bus.hub.switchboard import Switchboard
from hms_bus.ids import stamp
from hms_bus.ipc import frames
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Failure, LogInfo
from hms_bus.logrules import keeps_durables

_MAX_TOGETHER = 1000
"""Envelopes that one commit takes at most, unless an APPEND alone has more."""

_MAX_UNCOMMITTED = 8 * 2**20
"""Bytes that a client has sent and that are not committed; beyond it nothing more is read of it."""

_FEW_UNCOMMITTED = 256 * 2**10
"""The same while the hub holds too much: enough to go on with, whoever has filled it."""


class Journal:
    """The hub's log, opened when it is asked for; `log` is `None` before."""

    def __init__(self, switchboard: Switchboard) -> None:
        self.log: EventLog | None = None
        self.url: str | None = None
        self.appended = 0
        self._identity = ""
        self._which: Hashable = None
        self._switchboard = switchboard
        self._scope = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._pending: deque[Appending] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._long: asyncio.Task[None] | None = None
        """What is so long, or tried again, that nothing may begin beside it."""
        self._held: dict[Sender, int] = {}
        """What each client has under way, in bytes."""
        self._is_scheduled = False
        self.on_schedule: Callable[[], None] = _nothing
        """Called when a schedule was appended."""

    # -- life ----------------------------------------------------------------------------------

    async def open(self, url: str) -> None:
        """Open the log at `url`, unless it is open. Raises what its opener raises."""
        async with self._opening:
            if self.log is None:
                absolute = await asyncio.to_thread(plugins.absolute_log, url)
                self._which = await asyncio.to_thread(plugins.identify_log, absolute)
                self.log = await self._scope.enter_async_context(plugins.open_log(absolute))
                self.url = absolute
                survives = "log-survives-process" in self.log.capabilities
                self._identity = "" if survives else stamp()[0]
        await self.identify()

    async def identify(self) -> None:
        """Learn what the log is known by: its first record, and nothing while there is none.

        Another file at the same place is another log. Raises `LogError`.
        """
        if self.log is None or self._identity:
            return
        async for record in self.log.read(Selector(first=1, limit=1)):
            first = record.envelope
            named = f"{record.position} {record.recorded_ns} {first.source} {first.id}"
            self._identity = sha256(named.encode()).hexdigest()

    async def keeps(self, url: str) -> bool:
        """Whether the log at `url` is the one that is kept, and kept in the same way."""
        if self.url is None:
            return False
        return url == self.url or await asyncio.to_thread(plugins.identify_log, url) == self._which

    async def close(self) -> None:
        """Commit and answer what was appended, then close the log."""
        await self.settled()
        await self._scope.aclose()

    async def settled(self) -> None:
        """Return when all that was appended before has been answered."""
        last = self._pending[-1] if self._pending else None
        while last in self._pending:
            await (asyncio.wait(self._tasks) if self._tasks else asyncio.sleep(0))
        if under_way := set(self._tasks):
            await asyncio.wait(under_way)

    @property
    def holds_what_would_be_lost(self) -> bool:
        """Whether the log has records that end with this process."""
        return (
            self.log is not None
            and "log-survives-process" not in self.log.capabilities
            and self.appended > 0
        )

    def info(self) -> LogInfo | None:
        """Return what clients are told of the log."""
        if self.log is None or self.url is None:
            return None
        capabilities = set(self.log.capabilities)
        if keeps_durables(self.log):
            capabilities.add("log-schedules")
        return LogInfo(url=self.url, identity=self._identity, capabilities=sorted(capabilities))

    # -- appending -----------------------------------------------------------------------------

    def append(self, peer: Sender, content: bytes) -> None:
        """Take an APPEND; it is answered once it is committed and delivered, or refused."""
        if self.log is None:
            call, *_ = frames.read_append(content)
            peer.fail(call, NO_LOG)
            return
        appending = read_append(peer, content, self._switchboard)
        if appending is None:
            return
        self._note_held(appending)
        self._pending.append(appending)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._submit)

    def _submit(self) -> None:
        """Hand over what has come in this turn, in order, in as few commits as can be.

        What a log may take in several steps has to be committed before the next is handed over,
        which would overtake it else. One batch is handed over in each turn: a log refuses an
        envelope before it waits for anything, so what is tried again then is still the next.
        """
        self._is_scheduled = False
        if not self._pending or self._long is not None:
            return
        batch = self._next_batch()
        task = asyncio.get_running_loop().create_task(self._append(batch))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if len(batch[0].envelopes) > _MAX_TOGETHER:
            self._long = task
        if self._pending:
            self._schedule()

    def _next_batch(self) -> list[Appending]:
        """Take the next ones that can be committed together. One that expects stands alone."""
        pending = self._pending
        batch = [pending.popleft()]
        size = len(batch[0].envelopes)
        while pending and batch[0].expect == pending[0].expect == "any":
            size += len(pending[0].envelopes)
            if size > _MAX_TOGETHER:
                break
            batch.append(pending.popleft())
        return batch

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task is self._long:
            self._long = None
            self._schedule()

    async def _append(self, batch: Sequence[Appending]) -> None:
        """Commit and deliver; each APPEND is answered, whatever happens."""
        try:
            receipts = await self._commit(batch)
        except BusError as error:
            if len(batch) > 1 and isinstance(error, _OF_ONE):
                # One is to blame, the others are not. They begin in this order, before later ones.
                self._long = asyncio.current_task()
                await asyncio.gather(*(self._append([appending]) for appending in batch))
                return
            self._fail(batch, to_failure(error))
        except Exception as error:  # noqa: BLE001 - a bug in here fails a batch, not the hub
            self._fail(batch, failure_of(error, "the log"))
        else:
            self._deliver(batch, receipts)
        self._switchboard.flush()

    async def _commit(self, batch: Sequence[Appending]) -> list[Receipt]:
        if self.log is None:
            raise FrameError("the log was closed", reason="closing")
        envelopes = [envelope for appending in batch for envelope in appending.envelopes]
        receipts = await self.log.append(envelopes, expect=batch[0].expect)
        self.appended += sum(not receipt.duplicate for receipt in receipts)
        return receipts

    def _fail(self, batch: Sequence[Appending], failure: Failure) -> None:
        for appending in batch:
            self._note_released(appending)
            appending.fail(failure)

    def _deliver(self, batch: Sequence[Appending], receipts: Sequence[Receipt]) -> None:
        at = 0
        for appending in batch:
            self._note_released(appending)
            count = len(appending.envelopes)
            try:
                appending.deliver(self._switchboard, receipts[at : at + count])
                if appending.has_schedule:
                    self.on_schedule()
            except Exception as error:  # noqa: BLE001 - of one APPEND
                appending.fail(failure_of(error, "to deliver what was appended"))
            at += count

    # -- how much is under way -----------------------------------------------------------------

    def _note_held(self, appending: Appending) -> None:
        """Read nothing more of a client that appends faster than the disk can take it."""
        peer = appending.peer
        held = self._held[peer] = self._held.get(peer, 0) + appending.size
        self._switchboard.queued_bytes += appending.size
        if held > self._most_uncommitted():
            peer.hold_back(self)

    def _note_released(self, appending: Appending) -> None:
        peer = appending.peer
        left = self._held.pop(peer) - appending.size
        self._switchboard.note_released(peer, appending.size)
        if left:
            self._held[peer] = left
        if left <= self._most_uncommitted() // 2:
            peer.go_on(self)

    def _most_uncommitted(self) -> int:
        return _FEW_UNCOMMITTED if self._switchboard.is_overfull else _MAX_UNCOMMITTED


def _nothing() -> None:
    pass


_OF_ONE = (DecodeError, UsageError)
"""What one envelope of a batch is to blame for."""

NO_LOG = Failure(
    code="FAILED_PRECONDITION",
    message="the hub keeps no log: start it with --log, or open the bus with log=",
    reason="no-log",
)
