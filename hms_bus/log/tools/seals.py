"""Signed heads: proof, kept outside the file, of what a log held (spec/log.md, "Seals").

The signature is Ed25519 (RFC 8032). Keys are files: PKCS #8 and SubjectPublicKeyInfo in PEM. All of
it needs the extra `crypto`, and raises `ConfigError` without it.
"""

import os
import re
import struct
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hms_bus.abc import Head
from hms_bus.errors import ConfigError, DecodeError, UsageError
from hms_bus.log.tools.extras import need

_PREFIX = b"hms-bus-seal/1\n"
_NUMBERS = struct.Struct(">qqq")
_HEX_KEY = re.compile(r"[0-9a-f]{64}")

_Hash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Seal(Struct, frozen=True, kw_only=True):
    """A head, when it was signed, by which key, and the signature. `key` is the public one."""

    head: Head
    sealed_ns: int
    key: bytes
    signature: bytes


class _Document(Struct, frozen=True, kw_only=True):
    # A head with more members: who reads heads reads seals, too.
    format: Literal["hms-bus-head/1"]
    position: _Number
    hash: _Hash
    recorded_ns: _Number
    sealed_ns: _Number
    key: _Hash
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]


_decoder = msgspec.json.Decoder(_Document)


def make_key(path: Path) -> Path:
    """Write a new private key to `path`, for its owner only, and the public one to `path`.pub.

    Returns the name of the public one. Blocks. Raises `UsageError` when one of them exists,
    `OSError`.
    """
    serialization = _serialization()
    public = path.with_name(f"{path.name}.pub")
    for name in (path, public):
        if os.path.lexists(name):
            raise UsageError(f"{name} exists: a key is never replaced, choose another name")
    key = _ed25519().Ed25519PrivateKey.generate()
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(path, private_pem, 0o600)
    _write_new(public, public_pem, 0o644)
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sign(head: Head, key_file: Path, *, sealed_ns: int | None = None) -> Seal:
    """Sign `head` with a private key. Blocks. Raises `ConfigError` for what is no such key."""
    serialization = _serialization()
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key_file} is no private key in PEM without a password") from error
    except FileNotFoundError:
        raise ConfigError(
            f"there is no key {key_file}: `hms-bus log keygen {key_file}` makes one"
        ) from None
    if not isinstance(key, _ed25519().Ed25519PrivateKey):
        raise ConfigError(f"{key_file} is no Ed25519 key: `hms-bus log keygen` makes one")
    sealed_ns = time.time_ns() if sealed_ns is None else sealed_ns
    return Seal(
        head=head,
        sealed_ns=sealed_ns,
        key=key.public_key().public_bytes_raw(),
        signature=key.sign(_signed(head, sealed_ns)),
    )


def _signed(head: Head, sealed_ns: int) -> bytes:
    """Return the bytes that the signature is over."""
    return _PREFIX + _NUMBERS.pack(head.position, head.recorded_ns, sealed_ns) + head.hash


def read_public_key(text: str) -> bytes:
    """Return the 32 octets of a public key: a file in PEM, or 64 hexadecimal digits.

    Blocks. Raises `ConfigError`.
    """
    if _HEX_KEY.fullmatch(text):
        return bytes.fromhex(text)
    try:
        key = _serialization().load_pem_public_key(Path(text).read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"there is no public key {text}: name a file, or write its 64 hexadecimal digits"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{text} is no public key in PEM") from error
    if not isinstance(key, _ed25519().Ed25519PublicKey):
        raise ConfigError(f"{text} is no Ed25519 key")
    return key.public_bytes_raw()


def is_genuine(seal: Seal, key: bytes) -> bool:
    """Whether the owner of the public key `key` has signed `seal`."""
    if seal.key != key:
        return False
    try:
        public = _ed25519().Ed25519PublicKey.from_public_bytes(key)
        public.verify(seal.signature, _signed(seal.head, seal.sealed_ns))
    except need("cryptography.exceptions", **_EXTRA).InvalidSignature:
        return False
    return True


def format_seal(seal: Seal) -> bytes:
    """Return `seal` as one line of JSON, ended by a newline; `parse_head` reads it, too."""
    document = _Document(
        format="hms-bus-head/1",
        position=seal.head.position,
        hash=seal.head.hash.hex(),
        recorded_ns=seal.head.recorded_ns,
        sealed_ns=seal.sealed_ns,
        key=seal.key.hex(),
        signature=seal.signature.hex(),
    )
    return msgspec.json.encode(document) + b"\n"


def parse_seal(document: bytes) -> Seal:
    """Read what `format_seal` wrote. Raises `DecodeError`."""
    try:
        read = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = "wrong-type" if isinstance(error, msgspec.ValidationError) else "malformed"
        raise DecodeError(f"this is no seal of a log: {error}", reason=reason) from error
    head = Head(position=read.position, hash=bytes.fromhex(read.hash), recorded_ns=read.recorded_ns)
    return Seal(
        head=head,
        sealed_ns=read.sealed_ns,
        key=bytes.fromhex(read.key),
        signature=bytes.fromhex(read.signature),
    )


_EXTRA = {"extra": "crypto", "purpose": "a signature"}


def _ed25519() -> Any:
    return need("cryptography.hazmat.primitives.asymmetric.ed25519", **_EXTRA)


def _serialization() -> Any:
    return need("cryptography.hazmat.primitives.serialization", **_EXTRA)
