"""The `[config]` table of this plugin: the manifest's values, overlaid with the operator's."""

from typing import Optional

from wit_world.imports import config as _host


def get(key: str) -> Optional[str]:
    """The value as text; none if it is not set."""
    return _host.get(key)


def entries() -> dict[str, str]:
    """All settings."""
    return dict(_host.entries())
