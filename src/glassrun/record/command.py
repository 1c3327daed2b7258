"""How this process was started, so that it can be started again."""

from __future__ import annotations

import builtins
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any


def command() -> dict[str, Any] | str:
    """Python's executable, its arguments, the working folder and PYTHONHASHSEED; or, as a text, why there is none.

    The arguments are those of the process, not `sys.argv`, which a program may have changed.
    """
    reason = _not_repeatable(sys.orig_argv[1:])
    if reason:
        return reason
    return {"python": sys.executable, "arguments": sys.orig_argv[1:], "folder": str(Path.cwd())} | {
        "hash_seed": os.environ.get("PYTHONHASHSEED")
    }


def _not_repeatable(arguments: list[str]) -> str:
    if hasattr(builtins, "get_ipython"):
        return "it runs in a notebook or in IPython"
    if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "it is one of several processes that were started together"
    if multiprocessing.parent_process() is not None:
        return "it runs in a process that another Python process started"
    if hasattr(sys, "ps1") or sys.flags.interactive or not arguments:
        return "it is typed at a prompt, or read from standard input"
    if not _names_a_program(arguments):
        return "its program is read from standard input"
    return ""


def _names_a_program(arguments: list[str]) -> bool:
    """Whether Python's arguments hold a script, a module (-m) or a text (-c)."""
    values = iter(arguments)
    for argument in values:
        if not argument.startswith("-"):
            return True
        if argument == "-" or argument.startswith("--"):
            return False
        for place, letter in enumerate(argument[1:], start=2):
            if letter in "mc":
                return True
            if letter in "XW":
                if place == len(argument):
                    next(values, None)  # its value is the next argument
                break
    return False
