"""Configuration (floor 1): the only room that knows argv and environ.

A flag wins over the environment, that over `.env` in the current folder, that over `.env` beside
main.py, and that over the default.
"""

from httpd.config.inheritance import Inheritance, bequest, inheritance
from httpd.config.networks import Networks
from httpd.config.options import (
    COMMANDS,
    EXTRAS,
    OPTIONS,
    VERSION,
    Option,
    Settings,
    Task,
    flag,
    variables,
)
from httpd.config.reading import BadOption, Source, read, read_task, surroundings
from httpd.config.values import UNIX

__all__ = [
    "COMMANDS", "EXTRAS", "OPTIONS", "UNIX", "VERSION", "BadOption", "Inheritance", "Networks",
    "Option", "Settings", "Source", "Task", "bequest", "flag", "inheritance", "read", "read_task",
    "surroundings", "variables",
]  # fmt: skip
