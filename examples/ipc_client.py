"""A client of the hub in nothing but the standard library: a model for one in any language.

It speaks the protocol of spec/ipc.md over a Unix socket and shares no code with hms_bus. Half of it
is what a small client needs; the rest serves requests, uses the log, and mistrusts the hub. It does
without windows, reads JSON only, and does not connect again.

Run with:
    hms-bus hub --listen ipc://demo --log memory:demo
    python ipc_client.py ipc://demo

Prints:
    client 1 of the hub at ipc://demo
    orders.eu.created {'total': 42}
    3 + 4 = 7
    INVALID_ARGUMENT: two numbers, please
    UNAVAILABLE: nobody answers on stock.get
    appended at 1
    ABORTED: ...
    record 1 {'amount': 100}
"""

import asyncio
import json
import math
import os
import secrets
import socket
import struct
import sys
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from itertools import count, product
from typing import Any, Self

PROTOCOL = [1, 1]
ROOM = {"overflow": "block", "credit": 64}  # of a subscription
REASONS = {
    1: ("UNAVAILABLE", "nobody answers on"),
    2: ("PERMISSION_DENIED", "no right to"),
    3: ("RESOURCE_EXHAUSTED", "a queue is full on"),
}
"""Why messages are RETURNED."""
ANY = -1  # what an append expects: no matter what, none (0), or the topic's last position


class Kind(IntEnum):
    """The kinds of frames that this client sends or understands."""

    HELLO, WELCOME, ERROR, PING, PONG, BYE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
    PUBLISH, CALL, DELIVER, RETURNED = 0x10, 0x11, 0x12, 0x15
    DONE, FAILED, WINDOW = 0x16, 0x17, 0x18
    APPEND, RECEIPTS, READ, RECORDS, END, STOP, MORE = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26
    SUBSCRIBE, UNSUBSCRIBE, CREDIT, GONE, ASK, ANSWER = 0x30, 0x31, 0x32, 0x33, 0x40, 0x41


class HubError(Exception):
    """What failed, by the name of a gRPC status: at an agent, at the hub, or on the way."""

    def __init__(self, code: str = "UNKNOWN", message: str = "", **facts: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.retryable: bool = facts.get("retryable", False)
        self.details: dict[str, Any] = facts.get("details", {})
        self.reason: str = facts.get("reason", "")  # a word of spec/ipc.md, if the hub says it


class Event(dict[str, Any]):
    """A CloudEvent: its attributes, and `data`. Beside them stands what it was delivered with."""

    reply_to, subscription = "", 0


Handler = Callable[[Event], Awaitable[Any]]

# -- envelopes: spec/envelope.md ---------------------------------------------------------------


def new_event(source: str, topic: str, data: Any, cause: Event | None = None, **more: Any) -> Event:
    """Return an event that `cause` led to; `more` are further attributes, extensions too."""
    new_id, now = str(uuid.uuid4()), write_time(time.time())
    event = Event(specversion="1.0", id=new_id, source=source, type=topic, topic=topic, time=now)
    event |= {"datacontenttype": "application/json", "correlationid": new_id}
    if cause:
        event["correlationid"] = cause.get("correlationid", cause["id"])
        event |= {"causationid": cause["id"], "hops": cause.get("hops", 0) + 1}
    return Event({**event, **more, "data": data})


def write_time(seconds: float) -> str:
    """Return a time since 1970 as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_left(event: dict[str, Any]) -> float:
    """Return how long it takes until nobody wants the event any more."""
    text = event.get("expirytime")
    return datetime.fromisoformat(text.upper()).timestamp() - time.time() if text else math.inf


def write_json(members: dict[str, Any]) -> bytes:
    """Return one JSON object."""
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_json(document: bytes | memoryview) -> dict[str, Any]:
    """Read one JSON object. Raises `ValueError` for all else, such as another codec."""
    if not (text := bytes(document).decode()).startswith("{"):
        raise ValueError("no JSON object")
    return json.loads(text, parse_constant=int)  # NaN is no JSON, and no int


# -- frames: spec/ipc.md -----------------------------------------------------------------------


def cut(content: memoryview, layout: str) -> tuple[Any, ...]:
    """Return fields, each by its letter of `struct`, and what is left behind them.

    Raises `struct.error` when the content is too short.
    """
    size = struct.calcsize(">" + layout)
    return *struct.unpack(">" + layout, content[:size]), content[size:]


def write_messages(event: Event, address: str, reply_to: str = "") -> bytes:
    """Return an event with its address and reply address."""
    to, back, document = address.encode(), reply_to.encode(), write_json(event)
    lengths = struct.pack(">HH", len(to), len(back))
    return lengths + to + back + struct.pack(">I", len(document)) + document


def read_messages(content: memoryview) -> tuple[str, list[bytes]]:
    """Return the reply address and the envelopes."""
    to, back, content = cut(content, "HH")
    _, reply_to, content = cut(content, f"{to}s{back}s")
    documents: list[bytes] = []
    while content or not documents:
        length, content = cut(content, "I")
        document, content = cut(content, f"{length}s")
        documents.append(document)
    if not to or not all(documents):
        raise ValueError("an empty address or envelope")
    return reply_to.decode(), documents


def socket_path(url: str) -> str:
    """Return where the hub of ipc://NAME, ipc:///PATH or PATH listens."""
    name, environment = url.removeprefix("ipc://"), os.environ
    folder = f"{environment.get('TMPDIR') or '/tmp'}/hms-bus-{os.getuid()}"  # noqa: S108 - the spec's
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        folder = f"{runtime}/hms-bus"
    folder = environment.get("HMS_BUS_RUNTIME_DIR") or folder
    return name if "/" in name else f"{folder}/{name}.sock"


def owner_of(line: asyncio.StreamWriter) -> int:
    """Return the user at the other end, as Linux says (elsewhere the call has another name)."""
    credentials = line.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, 12
    )
    return struct.unpack("3i", credentials)[1]


# -- the client --------------------------------------------------------------------------------


class Arrivals(asyncio.Queue[Any]):
    """What came for one who waits: answers, events, and in the end an error."""

    async def __anext__(self) -> Any:
        item = await self.get()
        if isinstance(item, HubError):
            self.put_nowait(item)  # nothing comes behind it
            raise item
        return item


class Client:
    """A connection with the hub at ipc://NAME, ipc:///PATH or PATH, for an `async with` scope.

    `hello` are further members of the HELLO (`token`, `log`), `welcome` is what the hub answered.
    One task reads, and puts what comes where somebody waits for it: by the number of a call or a
    subscription, the bytes of a PING, or the id of a request. All methods raise `HubError`.
    """

    def __init__(self, url: str, name: str = "python", **hello: str) -> None:
        self.source, self.inbox = f"/agents/{name}", f"$inbox.{secrets.token_hex(16)}"
        about = {"name": name, "pid": os.getpid()}
        greeting = {"protocol": PROTOCOL, "envelope": "1.0", "codecs": ["json"], "client": about}
        self._url, self._hello, self._numbers = url, {**greeting, **hello}, count(1)
        self.welcome: dict[str, Any] = {"limits": {"max_frame": 2**16, "heartbeat_s": math.inf}}
        self._ended: HubError | None = None
        self._waiting: dict[int | bytes | str, Arrivals] = {}
        self._takers: dict[int, Callable[[Event], None]] = {}  # by the number of a subscription
        self._serving: dict[asyncio.Task[None], Event] = {}
        self._cancelled = deque[str](maxlen=1024)  # ids of requests that may come yet

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(socket_path(self._url))
        except OSError as error:
            raise HubError("UNAVAILABLE", f"no hub at {self._url}: {error}") from error
        if owner_of(self._writer) not in {0, os.geteuid()}:
            self._writer.close()
            raise HubError("UNAUTHENTICATED", f"{self._url} is another user's")
        self.send(Kind.HELLO, write_json(self._hello))
        self._reading = asyncio.create_task(self._read())
        try:
            with self._waiting_for("welcome") as answers:
                self.welcome = await anext(answers)
            for address in (self.inbox, "$control"):
                await self._subscribe(next(self._numbers), address, self._take_reply)
        except BaseException:
            self._writer.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for request in self._serving.values():
            self._fail(request, HubError("UNAVAILABLE", "the agent was closed", retryable=True))
        self._give_up()
        self._leave("the client was closed")
        await self._reading  # the hub closes when it has passed on all that was sent

    def _leave(self, why: str) -> None:
        if self._ended is None:
            self.send(Kind.BYE, b"{}")
            self._ended = HubError("UNAVAILABLE", why)

    async def publish(self, topic: str, data: Any, **more: Any) -> Event:
        """Publish data as JSON; return the event once every subscriber has room for it.

        `more` are attributes, and `cause`: the event that is being handled.
        """
        event = new_event(self.source, topic, data, **more)
        await self.call(Kind.CALL, write_messages(event, topic))
        return event

    @asynccontextmanager
    async def subscribe(
        self, pattern: str, group: str | None = None
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """Iterate over what is published from now on; of a group, one gets each event."""
        with self._waiting_for(number := next(self._numbers)) as arrivals:
            options = {"group": group, "answers": False, **ROOM}
            await self._subscribe(number, pattern, arrivals.put_nowait, **options)
            try:
                yield self._events(arrivals)
            finally:
                if self._ended is None:
                    await self.call(Kind.UNSUBSCRIBE, struct.pack(">I", number))
                del self._takers[number]

    async def _events(self, arrivals: Arrivals) -> AsyncIterator[Event]:
        while True:
            yield (event := await anext(arrivals))
            self._finish(event)

    async def _subscribe(
        self, number: int, pattern: str, take: Callable[[Event], None], **options: Any
    ) -> None:
        self._takers[number] = take
        options |= {"subscription": number, "pattern": pattern}
        given = {name: value for name, value in options.items() if value is not None}
        await self.call(Kind.SUBSCRIBE, write_json(given))

    def _finish(self, event: Event) -> None:
        if self._ended is None:  # so there is room for another one
            self.send(Kind.CREDIT, struct.pack(">III", event.subscription, 1, 1))

    # -- requests: spec/requests.md

    async def request(self, topic: str, data: Any, timeout: float = 5, **more: Any) -> Any:
        """Return what one who serves the topic answers; `more` as for `publish`."""
        due = time.time() + min(timeout, seconds_left(more.get("cause", {})))
        request = new_event(self.source, topic, data, expirytime=write_time(due), **more)
        async with self.asking(request) as replies:
            return (await anext(replies))["data"]

    @asynccontextmanager
    async def asking(self, request: Event) -> AsyncGenerator[Arrivals]:
        """Send a request; the `reply_to` of a reply is where its sender takes control."""
        try:
            async with asyncio.timeout(seconds_left(request)):
                with self._waiting_for(request["id"]) as replies:
                    message = write_messages(request, request["topic"], self.inbox)
                    self.send(Kind.PUBLISH, message)
                    yield replies
        except TimeoutError:
            raise HubError("DEADLINE_EXCEEDED", f"no answer on {request['topic']}") from None
        except asyncio.CancelledError:
            with suppress(HubError):  # the connection has ended
                self.control("cancel", request["id"])
            raise

    def control(self, what: str, request_id: str, to: str = "$control", **more: Any) -> None:
        """Tell who serves a request to `cancel` it, or that it may send more (`credit`)."""
        more |= {"type": f"hms.bus.{what}.v1", "causationid": request_id}
        event = new_event(self.source, "$control", None, **more)
        self.send(Kind.PUBLISH, write_messages(event, to))

    def _take_reply(self, reply: Event) -> None:
        cause = reply["causationid"]
        if reply["type"] == "hms.bus.cancel.v1":
            self._cancelled.append(cause)  # it may be here before its request
            self._give_up(cause)
        elif reply["type"] == "hms.bus.error.v1":
            self._put(cause, HubError(**reply["data"]))
        elif cause in self._waiting:
            self._put(cause, reply)
        elif reply.reply_to:  # an item of a stream that nobody reads any more
            self.control("cancel", cause, reply.reply_to)

    async def serve(self, topic: str, handler: Handler, group: str | None = None) -> None:
        """Answer requests from now on with what `await handler(request)` returns, or raises.

        It is cancelled when nobody wants the answer any more.
        """
        take = partial(self._take_request, handler)
        await self._subscribe(next(self._numbers), topic, take, group=group, **ROOM)

    def _take_request(self, handler: Handler, request: Event) -> None:
        is_new = all(request["id"] != other["id"] for other in self._serving.values())
        is_wanted = seconds_left(request) > 0 and request["id"] not in self._cancelled
        if request.reply_to and is_new and is_wanted:
            task = asyncio.create_task(self._answer(handler, request))
            self._serving[task] = request
            task.add_done_callback(lambda task: self._finish(self._serving.pop(task)))
        else:
            self._finish(request)

    async def _answer(self, handler: Handler, request: Event) -> None:
        deadline = asyncio.timeout(seconds_left(request))
        try:
            async with deadline:
                data = await handler(request)
            if "credit" in request:  # it asks for a stream: one item, and the end
                self._reply(request, data, sequence="0000000000")
                self._reply(request, None, sequence="0000000001", type="hms.bus.end.v1")
            else:
                self._reply(request, data)
        except HubError as error:
            self._fail(request, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            if not deadline.expired():
                text = f"{type(error).__name__}: {error}".removesuffix(": ")
                self._fail(request, HubError("UNKNOWN", text))

    def _fail(self, request: Event, error: HubError) -> None:
        what: dict[str, Any] = {"code": error.code, "message": error.message}
        what |= {"retryable": error.retryable, "details": error.details}
        with suppress(HubError):  # the connection has ended
            self._reply(request, what, type="hms.bus.error.v1")

    def _reply(self, request: Event, data: Any, **more: Any) -> None:
        topic = "$reply." + request["topic"].removeprefix("$")
        more["hops"] = request.get("hops", 0)  # an answer is no hop
        reply = new_event(self.source, topic, data, request, **more)
        self.send(Kind.PUBLISH, write_messages(reply, request.reply_to))

    def _give_up(self, what: str | None = None) -> None:
        for task, request in self._serving.items():
            if what in {None, request["id"], request.reply_to}:
                task.cancel()

    # -- the log

    async def append(self, *events: Event, expect: int = ANY) -> list[tuple[int, bool]]:
        """Append all or none; return for each its position, and whether the log had it before."""
        blocks = [write_messages(event, event["topic"]) for event in events]
        content = b"".join(struct.pack(">I", len(block)) + block for block in blocks)
        with self._waiting_for(call := next(self._numbers)) as receipts:
            self.send(Kind.APPEND, struct.pack(">IBq", call, 0, expect), content)
            return [await anext(receipts) for _ in events]

    async def read(self, **selector: Any) -> AsyncGenerator[tuple[int, int, Event]]:
        """Yield records: position, time (ns since 1970), event. READ in spec/ipc.md says which."""
        with self._waiting_for(call := next(self._numbers)) as records:
            self.send(Kind.READ, struct.pack(">I", call), write_json({"credit": 64, **selector}))
            try:
                while record := await anext(records):
                    yield record
                    self.send(Kind.MORE, struct.pack(">II", call, 1))
            except GeneratorExit:
                with suppress(HubError):
                    self.send(Kind.STOP, struct.pack(">I", call))
                raise

    # -- the connection

    async def call(self, kind: Kind, content: bytes) -> Any:
        """Send a frame that is answered once; return the answer."""
        with self._waiting_for(call := next(self._numbers)) as answers:
            self.send(kind, struct.pack(">I", call), content)
            return await anext(answers)

    async def ping(self) -> None:
        """Wait until the hub has dealt with what was sent before."""
        with self._waiting_for(token := secrets.token_bytes(8)) as answers:
            self.send(Kind.PING, token)
            await anext(answers)

    def send(self, kind: Kind, *parts: bytes) -> None:
        """Send a frame."""
        content = bytes([kind]) + b"".join(parts)
        if self._ended and kind != Kind.PONG:
            raise self._ended
        if len(content) > self.welcome["limits"]["max_frame"]:
            raise HubError("RESOURCE_EXHAUSTED", "the frame is too long", reason="frame-too-large")
        self._writer.write(struct.pack(">I", len(content)) + content)

    @contextmanager
    def _waiting_for(self, key: int | bytes | str) -> Generator[Arrivals]:
        self._waiting[key] = arrivals = Arrivals()
        try:
            yield arrivals
        finally:
            del self._waiting[key]

    def _put(self, key: int | bytes | str, item: Any) -> None:
        if arrivals := self._waiting.get(key):  # else nobody waits any more
            arrivals.put_nowait(item)

    async def _read(self) -> None:
        try:
            self._take_welcome(*await self._frame())
            while True:
                self._take(*await self._frame())
        except HubError as error:
            self._ended = error
        except (OSError, EOFError):
            self._ended = self._ended or HubError("UNAVAILABLE", "the connection was lost")
        except Exception as error:  # noqa: BLE001 - it comes of a frame that breaks the rules
            reason = "frame-too-large" if isinstance(error, OverflowError) else "bad-frame"
            refusal = {"code": "INVALID_ARGUMENT", "message": str(error), "reason": reason}
            self.send(Kind.ERROR, write_json(refusal))
            self._ended = HubError(**refusal)
        self._writer.close()
        self._give_up()
        for arrivals in self._waiting.values():
            arrivals.put_nowait(self._ended)

    async def _frame(self) -> tuple[int, memoryview]:
        (length,) = struct.unpack(">I", await self._octets(4))
        if length > self.welcome["limits"]["max_frame"] + 2**20:
            raise OverflowError(f"a frame of {length} bytes")
        kind, content = cut(memoryview(await self._octets(length)), "B")
        if not content and kind < 0x80:
            raise ValueError("a frame without content")
        return kind, content

    async def _octets(self, length: int) -> bytes:
        for _ in range(3):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.welcome["limits"]["heartbeat_s"]):
                    return await self._reader.readexactly(length)
            self.send(Kind.PING, bytes(8))
        raise HubError("UNAVAILABLE", "the hub is silent")

    def _take_welcome(self, kind: int, content: memoryview) -> None:
        members = read_json(content)
        if kind == Kind.ERROR:
            raise HubError(**members)
        match members:
            case {
                "protocol": int(),
                "envelope": str(),
                "codecs": list(),
                "hub": {"instance": str()},
                "client": int(),
                "limits": {
                    "max_frame": int(max_frame),
                    "heartbeat_s": int() | float() as heartbeat_s,
                },
                "log": None | {"identity": str()},
            } if kind == Kind.WELCOME and max_frame > 0 and heartbeat_s > 0:
                self._put("welcome", members)
            case _:
                raise ValueError("no WELCOME")

    def _take(self, kind: int, content: memoryview) -> None:  # noqa: C901, PLR0912 - a table
        match kind:
            case Kind.DELIVER:
                size, content = cut(content, "H")
                *numbers, content = cut(content, f"{size}I")
                self._deliver(numbers, *read_messages(content))
            case Kind.DONE:
                self._put(struct.unpack(">II", content)[0], None)
            case Kind.END:
                self._put(*struct.unpack(">I", content), None)
            case Kind.FAILED:
                call, content = cut(content, "I")
                self._put(call, HubError(**read_json(content)))
            case Kind.ANSWER:
                call, more, content = cut(content, "IB")
                answer = read_json(content)
                if more > 1:
                    raise ValueError(f"more is {more}, neither 0 nor 1")
                if not more:  # what comes before the last one tells of progress
                    self._put(call, answer)
            case Kind.RECEIPTS:
                for call, position, flags in struct.iter_unpack(">IQB", content):
                    self._put(call, (position, bool(flags & 1)))
            case Kind.RECORDS:
                call, content = cut(content, "I")
                while True:
                    position, recorded_ns, length, content = cut(content, "QQI")
                    document, content = cut(content, f"{length}s")
                    self._put(call, (position, recorded_ns, Event(read_json(document))))
                    if not content:
                        break
            case Kind.RETURNED:
                reason, content = cut(content, "B")
                code, why = REASONS.get(reason, ("UNKNOWN", "nobody was reached on"))
                for event in map(read_json, read_messages(content)[1]):
                    self._put(event["id"], HubError(code, f"{why} {event['topic']}"))
            case Kind.GONE:
                self._give_up(bytes(content).decode())
            case Kind.PING:
                self.send(Kind.PONG, *struct.unpack("8s", content))
            case Kind.PONG:
                self._put(*struct.unpack("8s", content), None)
            case Kind.ERROR:
                raise HubError(**read_json(content))
            case Kind.BYE:
                self._leave("the hub has ended")
            case Kind.WINDOW:
                pass  # this client uses none
            case _:
                if kind < 0x80:  # others are optional
                    raise ValueError(f"a frame of the unknown kind {kind:#x}")

    def _deliver(self, numbers: list[int], reply_to: str, documents: list[bytes]) -> None:
        for number, document in product(numbers, documents):
            event = Event()
            event.reply_to, event.subscription = reply_to, number
            try:
                event.update(read_json(document))
                self._takers[number](event)
            except (ValueError, KeyError, TypeError):  # another codec, or nonsense
                self._finish(event)


# -- a demo ------------------------------------------------------------------------------------


async def add(request: Event) -> int:
    """Answer with the sum of two numbers."""
    match request["data"]:
        case [int(a), int(b)]:
            return a + b
        case _:
            raise HubError("INVALID_ARGUMENT", "two numbers, please")


async def main(url: str) -> None:
    """Do everything that a client can."""
    async with Client(url, name="demo") as client:
        print("client", client.welcome["client"], "of the hub at", url)
        async with client.subscribe("orders.*.created") as orders:
            await client.publish("orders.eu.created", {"total": 42}, priority=7)
            order = await anext(orders)
            print(order["topic"], order["data"])
        await client.serve("sums.get", add)
        print("3 + 4 =", await client.request("sums.get", [3, 4]))
        await attempt(client.request("sums.get", "three and four"))
        await attempt(client.request("stock.get", "lamps"))
        if client.welcome["log"]:
            paid = new_event(client.source, "accounts.7", {"amount": 100})
            print("appended at", (await client.append(paid, expect=0))[0][0])
            await attempt(client.append(Event(paid, id="another"), expect=0))
            async for position, _, event in client.read(pattern="accounts.*"):
                print("record", position, event["data"])


async def attempt(something: Awaitable[Any]) -> None:
    """Do what will fail."""
    try:
        await something
    except HubError as error:
        print(error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
