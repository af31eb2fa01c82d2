"""The host's log, tagged with this plugin's id."""

from wit_world.imports import log as _host


def trace(text: str) -> None:
    _host.write(_host.Level.TRACE, text)


def debug(text: str) -> None:
    _host.write(_host.Level.DEBUG, text)


def info(text: str) -> None:
    _host.write(_host.Level.INFO, text)


def warn(text: str) -> None:
    _host.write(_host.Level.WARN, text)


def error(text: str) -> None:
    _host.write(_host.Level.ERROR, text)
