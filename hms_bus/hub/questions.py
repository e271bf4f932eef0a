"""What clients ask beside messages: records of the log, its head, figures of the hub."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from msgspec import to_builtins

from hms_bus.abc import EventLog, Head
from hms_bus.errors import Action, BusError, ConfigError, FrameError, UsageError
from hms_bus.hub.desk import Desk
from hms_bus.hub.durables import Durables
from hms_bus.hub.journal import NO_LOG
from hms_bus.hub.peer import Peer
from hms_bus.hub.reads import Reading, selector_of
from hms_bus.hub.rights import Rights
from hms_bus.hub.status import status_of
from hms_bus.ipc import frames
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Ask, Failure, HeadInfo, Read
from hms_bus.logrules import check_selector

_MAX_ASKS = 64
"""Questions of one client that are answered at a time."""

Work = Callable[[], Coroutine[Any, Any, Any]]


class Questions:
    """Answers READ and ASK."""

    def __init__(self, desk: Desk, durables: Durables) -> None:
        self._desk = desk
        self._durables = durables

    def read(self, peer: Peer, call: int, wanted: Read) -> None:
        """Begin to send records."""
        failure = self._check_read(peer, call, wanted)
        if failure is not None or self._desk.journal.log is None:
            peer.fail(call, failure or NO_LOG)
            return
        try:
            peer.begin_read(call, Reading(peer, call, self._desk.journal.log, wanted))
        except ConfigError as error:
            peer.fail(call, to_failure(error))

    def _check_read(self, peer: Peer, call: int, wanted: Read) -> Failure | None:
        if call in peer.readings:
            raise FrameError(f"the call {call} is under way")
        if len(peer.readings) >= self._desk.limits.max_reads:
            text = (
                f"a client reads at most {self._desk.limits.max_reads} times at once: end one, or "
                "raise max_reads in the hub's [limits]"
            )
            return Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit")
        try:
            pattern = check_selector(
                selector_of(wanted), follow=wanted.follow, where="the hub's log"
            )
        except UsageError as error:
            return to_failure(error)
        if peer.rights is None or not peer.rights.may_read(pattern):
            return self._desk.deny(peer, "read", wanted.pattern)
        return None

    def answer(self, peer: Peer, call: int, ask: Ask) -> None:
        """Answer an ASK."""
        if (action := _missing_right(peer.rights, ask)) is not None:
            durable = ask.name if action in {"forget", "redrive"} else None
            peer.fail(call, self._desk.deny(peer, action, durable))
            return
        match ask.op:
            case "status":
                self._begin_answer(peer, call, partial(status_of, self._desk))
            case "head" | "verify" | "durables" | "forget" | "redrive":
                if (log := self._desk.journal.log) is None:
                    peer.fail(call, NO_LOG)
                    return
                self._begin_answer(peer, call, partial(self._of_log, log, peer, call, ask))
            case "stop":
                self._reply(peer, call, {})
                self._desk.on_stop()
            case other:
                text = f"this hub knows no {other!r:.40}"
                peer.fail(
                    call,
                    Failure(
                        code="UNIMPLEMENTED",
                        message=text,
                        reason="unsupported",
                        details={"what": other[:40], "where": "the hub"},
                    ),
                )

    def _begin_answer(self, peer: Peer, call: int, work: Work) -> None:
        if len(peer.answering) >= _MAX_ASKS:
            text = f"a client asks at most {_MAX_ASKS} questions at once: wait for an answer"
            peer.fail(call, Failure(code="RESOURCE_EXHAUSTED", message=text, reason="limit"))
            return
        task = self._desk.begin(self._answer(peer, call, work))
        peer.answering.add(task)
        task.add_done_callback(peer.answering.discard)

    async def _answer(self, peer: Peer, call: int, work: Work) -> None:
        await peer.readable()
        try:
            self._reply(peer, call, await work())
        except BusError as error:
            peer.fail(call, to_failure(error))
        except Exception as error:  # noqa: BLE001 - a bug in here ends one question, not the client
            self._desk.report_bug(peer, error)
            peer.fail(call, Failure(code="INTERNAL", message=f"{type(error).__name__}: {error}"))
        peer.flush()

    @staticmethod
    def _reply(peer: Peer, call: int, document: Any, *, more: bool = False) -> None:
        content = msgspec.json.encode(document)
        peer.send_frame(frames.call_frame(frames.ANSWER, call, bytes([more]), content))

    async def _of_log(self, log: EventLog, peer: Peer, call: int, ask: Ask) -> dict[str, Any]:
        match ask.op:
            case "head":
                return to_builtins(_head_info(await log.head()))
            case "verify":
                return await self._verify(log, peer, call, ask)
            case "durables":
                *others, last = await self._durables.list_all(peer, log)
                for each in others:
                    self._reply(peer, call, each, more=True)
                return last
            case _:
                return await self._durables.change(log, ask)

    async def _verify(self, log: EventLog, peer: Peer, call: int, ask: Ask) -> dict[str, Any]:
        def progress(done: int, total: int) -> None:
            self._reply(peer, call, {"done": done, "total": total}, more=True)
            peer.flush()

        expected = None if ask.expected is None else _head(ask.expected)
        found = await log.verify(expected=expected, progress=progress)
        return {
            "records": found.records,
            "head": to_builtins(_head_info(found.head)),
            "problem": found.problem,
            "position": found.position,
        }


def _missing_right(rights: Rights | None, ask: Ask) -> Action | None:
    """Return what a client without the right to ask this is told that it may not do."""
    match op := ask.op:
        case "status" | "verify" | "stop" if rights is None or not rights.is_admin:
            return op
        case "head" if rights is None or not (rights.is_admin or rights.may_read(None)):
            return "read"
        # Before it is looked for: who has no right learns not even whether it is there.
        case "forget" | "redrive" if rights is None or not rights.may_use(ask.name or ""):
            return op
        case _:
            return None


def _head_info(head: Head) -> HeadInfo:
    return HeadInfo(position=head.position, hash=head.hash.hex(), recorded_ns=head.recorded_ns)


def _head(info: HeadInfo) -> Head:
    try:
        digest = bytes.fromhex(info.hash)
    except ValueError as error:
        raise FrameError(f"the hash of a head is hexadecimal: {error}") from error
    return Head(position=info.position, hash=digest, recorded_ns=info.recorded_ns)
