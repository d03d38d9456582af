"""Run a command under the system-call rules of a systemd unit, as systemd applies them: python -m tests.support.confined UNIT COMMAND …

`SystemCallFilter`, `SystemCallErrorNumber=EPERM`, `MemoryDenyWriteExecute` and `NoNewPrivileges`, by libseccomp. What the
groups (@system-service) hold is asked of systemd-analyze.
"""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_MASKED_EQ = 7
_WRITE_EXEC, _EXEC, _SHM_EXEC = 0x2 | 0x4, 0x4, 0o100000
_MEMORY = (("mmap", 2, _WRITE_EXEC), ("mprotect", 2, _EXEC), ("pkey_mprotect", 2, _EXEC), ("shmat", 2, _SHM_EXEC))
"""What MemoryDenyWriteExecute refuses: the call, the argument, the bits that may not all be set."""


class _Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def calls(group: str) -> Iterator[str]:
    """The system calls of a name or @group."""
    if not group.startswith("@"):
        yield group
        return
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines()[1:]:
        if (name := line.strip()) and not name.startswith("#"):
            yield from calls(name)


def allowed(unit: str) -> set[str]:
    found: set[str] = set(calls("@default"))  # systemd adds it to every list
    for line in unit.splitlines():
        if line.startswith("SystemCallFilter="):
            listed = line.partition("=")[2]
            named = {call for group in listed.removeprefix("~").split() for call in calls(group)}
            found = found - named if listed.startswith("~") else found | named
    return found


def confine(unit: str) -> None:
    """Put this process, and what it executes, under the rules of the unit."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_DENY)))

    def add(action: int, name: str, *comparisons: _Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other machines
            ruled = (_Comparison * len(comparisons))(*comparisons)
            result = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(comparisons), ruled)
            assert result == 0, (name, result)

    has_memory_rule = "MemoryDenyWriteExecute=yes" in unit
    ruled = {name: (place, bits) for name, place, bits in _MEMORY} if has_memory_rule else {}
    for name in sorted(allowed(unit)):
        if name not in ruled:
            add(_ALLOW, name)
            continue
        place, bits = ruled[name]
        for one in (
            1 << n for n in range(bits.bit_length()) if bits >> n & 1
        ):  # allowed where one of the bits is not set
            add(_ALLOW, name, _Comparison(place, _MASKED_EQ, one, 0))
    assert "NoNewPrivileges=yes" in unit  # libseccomp sets it before it loads
    assert library.seccomp_load(context) == 0


def main(unit: str, command: Sequence[str]) -> None:
    confine(Path(unit).read_text())
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
