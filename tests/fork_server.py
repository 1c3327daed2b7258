"""The process that warm workers are forked from (see warm_workers.py); a program of its own, which imports no other."""

from __future__ import annotations

import gc
import os
import runpy
import selectors
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

# What every worker imports in the end, the largest part for its optimizer. Nothing of ours: a run records what it has.
IMPORTED = ("numpy", "pydantic", "torch", "torch._dynamo", "torch.distributed")


def serve(asked: socket.socket) -> None:
    """Fork a worker whenever one is asked for, and tell how each ends, until nobody is left to ask."""
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        selector.register(asked, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not asked:
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    tell_the_end(*key.data)
                    continue
                message, descriptors, _, _ = socket.recv_fds(asked, 2**16, 5)
                if not message:
                    return
                pid = os.fork()
                if pid == 0:
                    become_worker(message.decode(), descriptors[:4])
                asked.send(b"%d" % pid)
                for descriptor in descriptors[:4]:
                    os.close(descriptor)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[4]))


def tell_the_end(pid: int, status: int) -> None:
    """Write a worker's exit code, below zero for the signal that killed it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):
        os.write(status, b"%d" % code)
    os.close(status)


def become_worker(folder: str, descriptors: list[int]) -> NoReturn:
    """In a forked process: a worker's pipes in place of the server's, nothing else open; then the worker's program."""
    try:
        os.setsid()
        os.chdir(folder)
        for place, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, place)
        events = os.dup2(descriptors[3], 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        sys.argv = ["", str(events)]
        runpy.run_module("glassrun.train.worker", run_name="__main__", alter_sys=True)
    finally:
        os._exit(70)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
