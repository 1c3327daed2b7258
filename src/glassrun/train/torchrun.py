"""This process as a rank that torchrun started, read from its environment; nothing here imports torch.

The process is the launcher of one worker, which has the environment that decides bits before torch is imported. It ends
when its agent ends, and the worker ends with it; so nothing of a run is left on a machine that torchrun has given up.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from glassrun.errors import ConfigError


@dataclass(frozen=True)
class Rank:
    """One process that torchrun started: `rank` of `world_size`, `local_world_size` of them on this machine."""

    rank: int
    world_size: int
    local_world_size: int
    host: str
    port: int
    agent_has_store: bool

    @property
    def several_machines(self) -> bool:
        return self.local_world_size < self.world_size

    def active(self, shards: int) -> int:
        """How many ranks compute: the largest power of two that there are ranks and shards for; the others wait."""
        return 1 << (min(self.world_size, shards).bit_length() - 1)

    def place(self, shards: int) -> dict[str, Any]:
        """What a worker's job says of its place."""
        meeting = {"host": self.host, "port": self.port, "ranks": self.world_size}
        return {
            "rank": self.rank,
            "world_size": self.active(shards),
            "meeting": meeting | {"serve": self.rank == 0 and not self.agent_has_store},
        }

    def variables(self) -> dict[str, str]:
        """The network interface that the workers talk over: the user's choice, else the one that leads to rank 0.

        Raises:
            ConfigError: several machines take part, and rank 0 has given an address that only its own can reach.
        """
        if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux":
            return {}
        address = _own_address(self.host, self.port)
        name = _interface(address)
        if self.several_machines and address.startswith("127."):
            raise ConfigError(
                f"torchrun: several machines take part, but rank 0 is at {self.host}, which is this machine's loopback "
                "address. Start torchrun with --local-addr ADDRESS on each machine, or set GLOO_SOCKET_IFNAME"
            )
        return {"GLOO_SOCKET_IFNAME": name} if name else {}


def find() -> Rank | None:
    """The rank that this process is, or None where torchrun did not start it."""
    said = os.environ
    if "TORCHELASTIC_RUN_ID" not in said:
        return None
    return Rank(
        rank=int(said["RANK"]),
        world_size=int(said["WORLD_SIZE"]),
        local_world_size=int(said["LOCAL_WORLD_SIZE"]),
        host=said["MASTER_ADDR"],
        port=int(said["MASTER_PORT"]),
        agent_has_store=said["TORCHELASTIC_USE_AGENT_STORE"] == "True",
    )


def end_with_agent() -> None:
    """End this process soon after its parent, torchrun's agent: a killed one cannot end it itself."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(agent: int) -> None:
    while os.getppid() == agent:
        time.sleep(0.5)
    os._exit(75)


def _own_address(host: str, port: int) -> str:
    """This machine's address on the way to a host: a datagram socket finds it without sending anything."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, port))
        return str(way.getsockname()[0])
    return ""


def _interface(address: str) -> str:
    """The name of the network interface that has an IPv4 address; empty for none."""
    import fcntl

    ask = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                found = fcntl.ioctl(any_socket, ask, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return ""
