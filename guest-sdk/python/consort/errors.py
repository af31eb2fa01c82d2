"""What goes wrong, as exceptions with the contract's words."""

from typing import Any, Optional, Type

from componentize_py_types import Err


class Error(Exception):
    """An error whose text is meant for people. Raised in `setup` or `restore`, it is the refusal."""


class _HostError(Error):
    """An error of a host call.

    `reason` is the contract's word, such as `not-leader`; `limit` is the bound in bytes where the
    reason is `too-large`.
    """

    def __init__(self, reason: str, limit: Optional[int] = None) -> None:
        super().__init__(reason if limit is None else f"{reason} {limit}")
        self.reason = reason
        self.limit = limit


class SendError(_HostError):
    """A message was not sent: not-leader, no-leader, unknown-peer, too-large or busy."""


class WriteError(_HostError):
    """State was not written: not-leader, invalid-key, too-large or busy."""


def refused(kind: Type[_HostError], error: Err[Any]) -> _HostError:
    """What to raise for an error of the bindings."""
    value = error.value
    # The bindings name a case `SendError_NotLeader`; the contract calls it `not-leader`.
    case = type(value).__name__.rpartition("_")[2]
    words = "".join("-" + c.lower() if c.isupper() else c for c in case)
    return kind(words.lstrip("-"), getattr(value, "value", None))
