"""spec/ipc.md by its own tables: kinds and contents, members, reasons, places, the example."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct

from hms_bus import errors
from hms_bus.abc import Overflow, Settlement
from hms_bus.errors import STATUS_CODES, BusError, FrameError
from hms_bus.ipc import frames
from hms_bus.ipc.durables import OUTCOMES, Consume, DurableEntry
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.places import find_place
from hms_bus.ipc.session import (
    ClientInfo,
    Failure,
    Farewell,
    HeadInfo,
    Hello,
    HubInfo,
    Limits,
    LogInfo,
    Read,
    Subscribe,
    Welcome,
)
from tests.support.ipc_frames import KINDS, NAMES
from tests.support.ipc_vectors import FrameVector, load_frames, load_sessions

ROOT = Path(__file__).parents[3]
SPEC = (ROOT / "spec" / "ipc.md").read_text(encoding="utf-8")
VECTORS = [vector for vector in load_frames() if vector.kind]


def table(head: str, *, section: str = "Version 1.") -> list[list[str]]:
    """The rows of the first table with this head behind the heading, without marks of code."""
    lines = iter(SPEC[SPEC.index(f"\n{section}") :].splitlines())
    next(line for line in lines if line.startswith(f"| {head} |"))
    next(lines)
    return [_cells(line) for line in _until_blank(lines)]


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip("| ").split(" |")]


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield line


# -- kinds and their contents ------------------------------------------------------------------

LAYOUTS = {name: content for _, name, _, content in table("kind")}
SENDERS = {name: sender for _, name, sender, _ in table("kind")}


def test_the_kinds_are_those_of_the_code() -> None:
    for number, name, *_ in table("kind"):
        assert getattr(frames, name) == int(number, 16), name
    assert set(LAYOUTS) == KINDS


def test_each_kind_is_read_from_who_sends_it() -> None:
    for sender in ("client", "hub"):
        sent = {name for name, by in SENDERS.items() if by in {sender, "both"}}
        assert set(NAMES[sender].values()) == sent - {"HELLO", "WELCOME"}
    assert {SENDERS["HELLO"], SENDERS["WELCOME"]} == {"client", "hub"}
    for vector in VECTORS:
        assert SENDERS[vector.kind] in {vector.sender, "both"}, vector.name


class Reading:
    """Reads a content by the words of the table, with nothing of the code."""

    def __init__(self, content: bytes) -> None:
        self.left = content
        self.length: int | None = None

    def take(self, size: int) -> bytes:
        taken, self.left = self.left[:size], self.left[size:]
        assert len(taken) == size
        return taken

    def number(self, kind: str) -> int:
        taken = self.take(int(kind[1:]) // 8)
        return int.from_bytes(taken, "big", signed=kind[0] == "i")

    def rest(self) -> bytes:
        """All that is left, or as much as a length has said."""
        size = len(self.left) if self.length is None else self.length
        self.length = None
        return self.take(size)

    def all(self, layout: str) -> dict[str, Any]:
        first, times, repeated = re.fullmatch(
            r"(.*?)(?:(?:, |^)(?:then )?(one or more|any number of) times: (.*))?", layout
        ).groups(default="")  # pyright: ignore[reportOptionalMemberAccess]
        read = self.each(first)
        if repeated:
            read["entries"] = [self.each(repeated)] if times == "one or more" else []
            while self.left:
                read["entries"].append(self.each(repeated))
        assert self.left == b""
        return read

    def each(self, layout: str) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for field in re.split(r", (?![^(]*\))", layout) if layout else []:
            match field.split(" "):
                case ["json"]:
                    read["json"] = json.loads(self.rest())
                case ["8", "bytes"]:
                    read["bytes"] = self.take(8).hex()
                case ["messages"]:
                    read["messages"] = read_block(self.rest())
                case ["envelope"]:
                    read["envelope"] = self.rest()
                case ["address" | "code" as name, *_] | ["reason" as name]:
                    read[name] = self.rest().decode()
                case ["length" | "count" as name, kind] if name == "length" or kind == "u16":
                    self.length = self.number(kind)
                case ["that", "many", name, kind]:
                    read[name] = [self.number(kind) for _ in range(self.length or 0)]
                    self.length = None
                case [name, kind]:
                    read[name] = self.number(kind)
                case _:
                    pytest.fail(f"the table has an unknown word: {field}")
        return read


def read_block(content: bytes) -> dict[str, Any]:
    """Messages by the words of their table."""
    sizes = [row[0] for row in table("bytes", section="## Frames\n")]
    assert sizes == ["4", "1", "…"]
    rows = list(_until_blank(iter(SPEC[SPEC.index("| 2 | length of the address") :].splitlines())))
    assert [_cells(row)[0] for row in rows] == ["2", "2", "…", "…", "4", "…", "…"]
    reading = Reading(content)
    address, reply = reading.number("u16"), reading.number("u16")
    block: dict[str, Any] = {"address": reading.take(address).decode()}
    if reply:
        block["reply_to"] = reading.take(reply).decode()
    envelopes: list[bytes] = []
    while reading.left:
        envelopes.append(reading.take(reading.number("u32")))
    return {**block, "envelopes": envelopes}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_table_of_kinds_reads_the_vectors(vector: FrameVector) -> None:
    whole = Reading(vector.stream)
    assert (whole.number("u32"), len(whole.left)) == (len(vector.stream) - 4,) * 2
    assert whole.number("u8") == getattr(frames, vector.kind)
    assert Reading(whole.left).all(LAYOUTS[vector.kind]) == vector.content


def test_the_flags_and_reasons_are_those_of_the_code() -> None:
    assert [int(bit) for bit, _ in table("bit")] == [0, 1]
    assert (frames.DUPLICATE, frames.LAST, frames.RETRY) == (1 << 0, 1 << 1, 1 << 0)
    returned = table("reason", section="## Requests")
    assert [int(reason) for reason, _ in returned] == [
        frames.NO_RESPONDERS,
        frames.DENIED,
        frames.DROPPED,
    ]
    assert frames.OPTIONAL == 0x80


# -- members -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "section", "struct"),
    [
        ("member", "## Opening", Hello),
        ("member of `client`", "## Opening", ClientInfo),
        ("member", "The hub answers with WELCOME", Welcome),
        ("member of `hub`", "## Opening", HubInfo),
        ("member of `limits`", "## Opening", Limits),
        ("member of `log`", "## Opening", LogInfo),
        ("member", "## Errors", Failure),
        ("member", "## Subscribing", Subscribe),
        ("member", "**READ**", Read),
        ("member", "**CONSUME**", Consume),
    ],
)
def test_the_members_are_those_of_the_code(head: str, section: str, struct: type[Struct]) -> None:
    assert {row[0] for row in table(head, section=section)} == set(struct.__struct_fields__)


@pytest.mark.parametrize(
    ("head", "section", "struct"),
    [
        ("member", "## Opening", Hello),
        ("member of `client`", "## Opening", ClientInfo),
        ("member", "## Subscribing", Subscribe),
        ("member", "**READ**", Read),
        ("member", "**CONSUME**", Consume),
    ],
)
def test_the_required_members_and_the_defaults(
    head: str, section: str, struct: type[Struct]
) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for name, needed, text in table(head, section=section):
        assert fields[name].required == (needed == "required"), name
        if match := re.search(r"; `?([\w.]+)`? when absent", text):
            assert str(fields[name].default).lower() == match[1], name


def test_the_members_of_an_error_have_the_defaults_that_it_says() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(Failure)}
    said = {
        row[0]: re.search(r"`(\S+)` when absent", row[1])
        for row in table("member", section="## Errors")
    }
    defaults = {name: match[1] for name, match in said.items() if match}
    assert defaults == {"reason": "internal", "retryable": "false", "details": "{}"}
    assert fields["reason"].default == "internal"
    assert fields["retryable"].default is False
    assert Failure(code="A", message="").details == {}


def test_a_head_and_a_farewell_have_the_members_that_are_named() -> None:
    assert set(HeadInfo.__struct_fields__) == {"format", "position", "hash", "recorded_ns"}
    assert Farewell.__struct_fields__ == ("reason",)
    assert "Its only member is `reason`" in SPEC


def test_a_durable_is_told_of_by_its_own_members_and_how_it_stands() -> None:
    figures = [row[0] for row in table("member of a durable", section="## Other questions")]
    own = [row[0] for row in table("member", section="**CONSUME**")]
    said = [*own, *figures]
    assert set(DurableEntry.__struct_fields__) == set(said) - {"consumer", "codec"}


def test_the_outcomes_are_those_of_the_code() -> None:
    outcomes = [(int(number), name) for number, name, _ in table("outcome", section="## Durables")]
    assert outcomes == list(enumerate(OUTCOMES, 1))
    field = next(f for f in msgspec.structs.fields(Settlement) if f.name == "outcome")
    assert set(OUTCOMES) == set(get_args(field.type))


def test_the_policies_are_those_of_the_code() -> None:
    assert {row[0] for row in table("policy")} == set(get_args(Overflow))
    [said] = [row[2] for row in table("member", section="## Subscribing") if row[0] == "overflow"]
    assert set(re.findall(r"`(\w+)`", said)) == set(get_args(Overflow))


def test_the_questions_are_those_of_the_vectors() -> None:
    asked = {vector.content["json"]["op"] for vector in VECTORS if vector.kind == "ASK"}
    assert {row[0] for row in table("op")} == asked


# -- reasons -----------------------------------------------------------------------------------

REASONS = {reason: code for reason, code, _ in table("reason", section="## Errors")}
SOURCES = [
    path
    for folder in ("ipc", "hub", "transports/ipc")
    for path in sorted((ROOT / "hms_bus" / folder).glob("**/*.py"))
]


def calls_of(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where something is called in the code of hub and client, and its constant keywords."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                keywords = {
                    keyword.arg or "": keyword.value.value
                    for keyword in node.keywords
                    if isinstance(keyword.value, ast.Constant)
                }
                if node.func.id == name:
                    yield f"{path.name}:{node.lineno}", keywords


def test_the_codes_have_names_of_grpc() -> None:
    assert {code for code in REASONS.values() if code != "the log's"} <= STATUS_CODES


def test_the_code_says_the_reasons_of_the_spec_with_their_codes() -> None:
    failures = [(where, said) for where, said in calls_of("Failure") if "code" in said]
    for where, said in failures:
        if said["code"] == "UNKNOWN":
            continue  # of an error that cannot be read
        assert REASONS[said.get("reason", "internal")] == said["code"], where
    assert len(failures) > 5
    for where, said in (*calls_of("FrameError"), *calls_of("to_failure")):
        assert said.get("reason", "bad-frame") in REASONS, where


def samples() -> Iterator[BusError]:
    yield from (FrameError("m", reason=reason) for reason in FRAME_REASONS)
    yield errors.ConflictError(topic="a", expected=1, actual=2)
    yield errors.QueueFullError(queue="a", limit=1)
    yield errors.LogReadOnlyError("m", path="p")
    yield errors.LogCorruptError("m", path="p", position=1)
    yield errors.LogLockedError(path="p", holder="h")
    yield errors.DurableInUseError("m", path="p", name="d")
    yield errors.UnsupportedError("a", "b")
    yield errors.TopicError("a..b", "m")
    yield errors.DecodeError("m", reason="malformed")
    yield errors.UsageError("m")


FRAME_REASONS = ("bad-frame", "frame-too-large", "no-hello", "bad-topic", "closing")


@pytest.mark.parametrize("error", list(samples()), ids=lambda error: type(error).__name__)
def test_an_error_has_the_code_and_the_details_of_its_reason(error: BusError) -> None:
    failure = to_failure(error)
    code = REASONS[failure.reason]
    assert failure.code == (error.code if code == "the log's" else code)
    [text] = [row[2] for row in table("reason", section="## Errors") if row[0] == failure.reason]
    named = set(re.findall(r"`(\w+)`", text.partition(": ")[2]))
    assert named - {"position", "kind", "name"} <= set(failure.details)


# -- places ------------------------------------------------------------------------------------


def test_the_runtime_folder_is_where_the_table_says() -> None:
    environment = {"HMS_BUS_RUNTIME_DIR": "/h", "XDG_RUNTIME_DIR": "/x", "TMPDIR": "/t"}
    for variable, said in table("variable"):
        expected = said.replace("UID", str(os.getuid()))
        for name, value in environment.items():
            expected = expected.replace(f"${name}", value)
        place = find_place("agents", environment=environment)
        assert str(place.folder) == expected
        environment.pop(variable, None)
    assert environment == {}


def test_the_files_are_those_of_the_table() -> None:
    place = find_place("NAME", environment={"HMS_BUS_RUNTIME_DIR": "/h"})
    named = {name for name, _ in table("file")}
    paths = (place.socket, place.lock, place.spawn, place.tcp, place.hub_log)
    assert named == {path.name for path in paths}


# -- the example -------------------------------------------------------------------------------


def test_the_example_is_a_conversation_of_the_vectors() -> None:
    [session] = [each for each in load_sessions() if each.name == "publish-and-deliver"]
    block = SPEC[SPEC.index("## An example") :].split("```text\n")[1].split("```")[0]
    shown = re.findall(r"(\w+) to (\w+): (\w+)\n((?:    .*\n)*)", block)
    assert len(shown) == len(session.steps)
    for (sender, receiver, said, lines), step in zip(shown, session.steps, strict=True):
        line = (step.connection, "hub") if step.sender == "client" else ("hub", step.connection)
        assert (sender, receiver) == line
        assert said == (step.kind or "closes")
        assert b"".join(map(spelled, lines.splitlines())) == step.stream


def spelled(line: str) -> bytes:
    """The bytes of an indented line: hexadecimal, or text."""
    text = line[4:]
    to_bytes: Callable[[str], bytes] = (
        bytes.fromhex if re.fullmatch(r"[0-9a-f]{2}( {1,2}[0-9a-f]{2})*", text) else str.encode
    )
    return to_bytes(text)
