"""Seals: only the owner of the key can have made one, and no part of it can be changed."""

import json
import stat
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from hms_bus.abc import Head
from hms_bus.errors import ConfigError, DecodeError, UsageError
from hms_bus.log import parse_head
from hms_bus.log.tools import format_seal, is_genuine, make_key, parse_seal, sign
from hms_bus.log.tools.seals import read_public_key

HEAD = Head(
    position=2,
    hash=bytes.fromhex("13b0363ce5d5eff51fefdbf0f9fa1d0e1fd6a0ab091eb4066126ece99415ce82"),
    recorded_ns=1769860800000000500,
)
SPEC = Path(__file__).parents[4] / "spec" / "log.md"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "log.key")
    return tmp_path / "log.key"


def test_a_seal_is_genuine_for_the_key_that_made_it(key: Path, tmp_path: Path) -> None:
    seal = sign(HEAD, key)
    public = read_public_key(f"{key}.pub")
    assert is_genuine(seal, public)
    assert seal.key == public == read_public_key(public.hex())
    make_key(tmp_path / "other.key")
    assert not is_genuine(seal, read_public_key(str(tmp_path / "other.key.pub")))


def test_no_part_of_a_seal_can_be_changed(key: Path) -> None:
    seal = sign(HEAD, key)
    for changed in (
        replace(seal, head=replace(HEAD, position=1)),
        replace(seal, head=replace(HEAD, hash=bytes(32))),
        replace(seal, head=replace(HEAD, recorded_ns=1)),
        replace(seal, sealed_ns=1),
        replace(seal, signature=bytes(64)),
    ):
        assert not is_genuine(changed, seal.key)


def test_a_seal_is_a_head_with_more_members(key: Path) -> None:
    seal = sign(HEAD, key)
    assert parse_seal(format_seal(seal)) == seal
    assert parse_head(format_seal(seal)) == HEAD


@pytest.mark.parametrize(
    "change", [{"signature": "00"}, {"key": 1}, {"position": -1}, {"format": "x"}]
)
def test_what_is_no_seal_is_refused(key: Path, change: dict[str, object]) -> None:
    document = json.loads(format_seal(sign(HEAD, key)))
    with pytest.raises(DecodeError):
        parse_seal(json.dumps({**document, **change}).encode())
    with pytest.raises(DecodeError):
        parse_seal(b"\xff{")


def test_the_secret_key_is_its_owners_and_never_replaced(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    content = key.read_bytes()
    with pytest.raises(UsageError, match="never replaced"):
        make_key(key)
    assert key.read_bytes() == content


def test_keys_that_are_none_are_refused(key: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keygen"):
        sign(HEAD, tmp_path / "none.key")
    with pytest.raises(ConfigError, match="no private key"):
        sign(HEAD, Path(f"{key}.pub"))
    with pytest.raises(ConfigError, match="no public key"):
        read_public_key(str(key))
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        read_public_key("abc")


def test_without_the_extra_the_error_names_it(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"hms-bus\[crypto\]"):
        sign(HEAD, key)


def test_the_seal_of_the_specification_is_genuine() -> None:
    [line] = [
        line for line in SPEC.read_text(encoding="utf-8").splitlines() if '"signature":' in line
    ]
    seal = parse_seal(line.encode())
    assert seal.head == HEAD
    assert is_genuine(seal, seal.key)
