"""Configuration (floor 1): the only room that knows argv and environ.

A flag wins over the environment, that over `.env` in the current folder, that over `.env` beside
main.py, and that over the default.
"""

from httpd.config.inheritance import Inheritance, bequest, inheritance
from httpd.config.networks import Networks
from httpd.config.options import (
    ACCESS_LOGS,
    COMMANDS,
    DURABILITIES,
    EXTRAS,
    HASHES,
    LEVELS,
    OPTIONS,
    VERSION,
    Option,
    Settings,
    Task,
    flag,
    variables,
)
from httpd.config.reading import (
    BadOption,
    Source,
    installed_home,
    read,
    read_task,
    surroundings,
)
from httpd.config.values import UNIX

__all__ = [
    "ACCESS_LOGS", "COMMANDS", "DURABILITIES", "EXTRAS", "HASHES", "LEVELS", "OPTIONS", "UNIX",
    "VERSION", "BadOption", "Inheritance", "Networks", "Option", "Settings", "Source", "Task",
    "bequest", "flag", "inheritance", "installed_home", "read", "read_task", "surroundings",
    "variables",
]  # fmt: skip
