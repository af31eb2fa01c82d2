"""What `Plugin.state_changed` is told."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional


class Origin(Enum):
    """Which kind of state changed."""

    LEADER = "leader"
    DEVICE = "device"
    SHARED = "shared"
    COUNTER = "counter"


class Outcome(Enum):
    """What happened to the key."""

    PUT = "put"
    COUNTED = "counted"
    DELETED = "deleted"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Change:
    """One key that changed."""

    origin: Origin
    key: str
    outcome: Outcome
    device: Optional[str] = None
    """Whose state it is, for `Origin.DEVICE`."""
    value: Optional[bytes] = None
    """What was written, for `Outcome.PUT`."""
    sum: Optional[int] = None
    """The counter's new sum, for `Outcome.COUNTED`."""


def change_from_host(change: Any) -> Change:
    """From the bindings' record, whose cases are classes such as `Outcome_Put`."""
    outcome = Outcome(_case(change.outcome))
    carried = getattr(change.outcome, "value", None)
    return Change(
        origin=Origin(_case(change.origin)),
        key=change.key,
        outcome=outcome,
        device=getattr(change.origin, "value", None),
        value=carried if outcome is Outcome.PUT else None,
        sum=carried if outcome is Outcome.COUNTED else None,
    )


def _case(variant: object) -> str:
    return type(variant).__name__.rpartition("_")[2].lower()
