"""A disk whose syncs fail: the kernel is told to answer this process's fsync calls with EIO.

Uses a seccomp filter (Linux 3.17, no privileges needed), so that the code under test makes its real
calls and gets a real error from them. It holds for all threads and cannot be taken back: only for a
process that the test has made for the purpose.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import Final

_SYSTEM_CALLS: Final = {
    # By machine, the numbers of seccomp, fsync and fdatasync.
    "x86_64": (317, 74, 75),
    "aarch64": (277, 82, 83),
}
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_LOAD_WORD = 0x20
_JUMP_IF_EQUAL = 0x15
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def fail_every_sync() -> None:
    """Let fsync and fdatasync of this process fail with EIO from now on."""
    seccomp, *syncs = _SYSTEM_CALLS[platform.machine()]
    instructions = [
        (_LOAD_WORD, 0, 0, 0),  # the number of the system call
        *((_JUMP_IF_EQUAL, len(syncs) - n, 0, call) for n, call in enumerate(syncs)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERROR | errno.EIO),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), code)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(
        libc.syscall(
            seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(program)
        )
    )


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
