"""MessagePack for payloads, the convention of all Consort SDKs.

Values are None, bool, int (64 bits), float, str, bytes, lists (and tuples) and dicts. Decoding
limits the depth and refuses what follows the value, as payloads come from other devices.
"""

import struct
from typing import Any, Optional

__all__ = ["DEPTH_MAX", "DecodeError", "EncodeError", "decode", "encode"]

DEPTH_MAX = 16
"""How deep values may nest."""


class EncodeError(ValueError):
    """A value has no MessagePack form."""


class DecodeError(ValueError):
    """A payload holds no value, or more than one."""


def encode(value: Any) -> bytes:
    """A value as MessagePack. Raises `EncodeError` for what it cannot hold."""
    out = bytearray()
    _write(out, value, DEPTH_MAX)
    return bytes(out)


def decode(payload: bytes) -> Any:
    """The one value in a payload. Raises `DecodeError`."""
    reader = _Reader(payload)
    value = reader.value(DEPTH_MAX)
    rest = len(payload) - reader.at
    if rest:
        raise DecodeError(f"{rest} bytes follow the value in the payload")
    return value


def _write(out: bytearray, value: Any, depth: int) -> None:
    if value is None:
        out.append(0xC0)
    elif isinstance(value, bool):
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        _write_int(out, value)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        text = value.encode()
        _write_head(out, len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB))
        out += text
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _write_head(out, len(value), None, -1, (0xC4, 0xC5, 0xC6))
        out += value
    elif isinstance(value, (list, tuple, dict)):
        _write_container(out, value, depth)
    else:
        raise EncodeError(f"no MessagePack form: {type(value).__name__}")


def _write_container(out: bytearray, value: Any, depth: int) -> None:
    if depth == 0:
        raise EncodeError(f"the value nests deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        _write_head(out, len(value), 0x80, 15, (None, 0xDE, 0xDF))
        for key, item in value.items():
            _write(out, key, depth - 1)
            _write(out, item, depth - 1)
    else:
        _write_head(out, len(value), 0x90, 15, (None, 0xDC, 0xDD))
        for item in value:
            _write(out, item, depth - 1)


def _write_int(out: bytearray, value: int) -> None:
    if -32 <= value < 128:
        out += value.to_bytes(1, "big", signed=value < 0)
        return
    first = 0xD0 if value < 0 else 0xCC
    for index in range(4):
        try:
            number = value.to_bytes(1 << index, "big", signed=value < 0)
        except OverflowError:
            continue
        out.append(first + index)
        out += number
        return
    raise EncodeError(f"no MessagePack form: {value} has more than 64 bits")


def _write_head(out: bytearray, length: int, short: Any, short_max: int, heads: tuple[Optional[int], ...]) -> None:
    if length <= short_max:
        out.append(short | length)
        return
    for head, size in zip(heads, (1, 2, 4)):
        if head is not None and length < 1 << (8 * size):
            out.append(head)
            out += length.to_bytes(size, "big")
            return
    raise EncodeError("no MessagePack form: longer than 4 GiB")


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.payload):
            raise DecodeError("the payload ends within a value")
        taken = self.payload[self.at : end]
        self.at = end
        return taken

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise DecodeError("a text is no UTF-8") from None

    def value(self, depth: int) -> Any:
        head = self.number(1)
        if head < 0x80:
            return head
        if head >= 0xE0:
            return head - 0x100
        if head < 0x90:
            return self.mapping(head & 0x0F, depth)
        if head < 0xA0:
            return self.sequence(head & 0x0F, depth)
        if head < 0xC0:
            return self.text(head & 0x1F)
        return self.long_form(head, depth)

    def long_form(self, head: int, depth: int) -> Any:
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if 0xC4 <= head <= 0xC6:
            return self.take(self.number(1 << (head - 0xC4)))
        if head == 0xCA:
            return struct.unpack(">f", self.take(4))[0]
        if head == 0xCB:
            return struct.unpack(">d", self.take(8))[0]
        if 0xCC <= head <= 0xCF:
            return self.number(1 << (head - 0xCC))
        if 0xD0 <= head <= 0xD3:
            return self.number(1 << (head - 0xD0), signed=True)
        if 0xD9 <= head <= 0xDB:
            return self.text(self.number(1 << (head - 0xD9)))
        if head in (0xDC, 0xDD):
            return self.sequence(self.number(2 if head == 0xDC else 4), depth)
        if head in (0xDE, 0xDF):
            return self.mapping(self.number(2 if head == 0xDE else 4), depth)
        raise DecodeError(f"the byte {head:#04x} begins no value")

    def sequence(self, count: int, depth: int) -> list[Any]:
        self.enter(depth)
        return [self.value(depth - 1) for _ in range(count)]

    def mapping(self, count: int, depth: int) -> dict[Any, Any]:
        self.enter(depth)
        values = {}
        for _ in range(count):
            key = self.value(depth - 1)
            if isinstance(key, (list, dict)):
                raise DecodeError("a key is no plain value")
            values[key] = self.value(depth - 1)
        return values

    @staticmethod
    def enter(depth: int) -> None:
        if depth == 0:
            raise DecodeError(f"the payload nests deeper than {DEPTH_MAX} levels")
