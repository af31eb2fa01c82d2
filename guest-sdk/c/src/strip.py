"""Takes the sections for debuggers out of a WebAssembly module: python3 strip.py FILE

What stays of the custom sections says how functions are called, which the host shows when one traps.
"""

import sys


def number(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def stripped(module: bytes) -> bytes:
    kept, at = [module[:8]], 8
    while at < len(module):
        size, start = number(module, at + 1)
        length, name = number(module, start)
        custom = module[at] == 0
        if not (custom and module[name : name + length].startswith(b".debug_")):
            kept.append(module[at : start + size])
        at = start + size
    return b"".join(kept)


with open(sys.argv[1], "rb") as file:
    content = file.read()
with open(sys.argv[1], "wb") as file:
    file.write(stripped(content))
