"""Generates the minimal program that a probe build runs, so that it needs no base image. Pure."""

from __future__ import annotations

import struct

_BASE, _HEADERS = 0x400000, 64 + 56
_CODE = {
    # xor edi, edi; mov eax, 60 (exit); syscall
    "x86_64": (62, bytes.fromhex("31ffb83c0000000f05")),
    # mov x0, 0; mov x8, 93 (exit); svc 0
    "aarch64": (183, bytes.fromhex("000080d2a80b80d2010000d4")),
}


def exit_program(machine: str) -> bytes | None:
    """A static Linux program that exits with 0; None for unsupported machines.

    Args:
        machine: As `os.uname().machine` names it.

    Source: elf(5).
    """
    if machine not in _CODE:
        return None
    number, code = _CODE[machine]
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
