"""The installed distributions: versions, and where those came from that no index gave."""

from __future__ import annotations

import json
import re
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from glassrun.record import git


def versions() -> dict[str, str]:
    """Every installed distribution and its version, by normalised name; of two of one name, the one that is imported.

    Names are normalised as PyPA's specification says: lower case, one hyphen for runs of `-`, `_` and `.`.
    """
    return {name: distribution.version for name, distribution in sorted(_distributions().items())}


def origins() -> dict[str, dict[str, Any]]:
    """Where each distribution came from that is installed from a folder, a repository or a file, or lies in its source.

    Returns:
        By name, for a folder: `folder`, `editable`, `git` (see `git.repository`); for a repository: `url`, `commit`;
        for a file: `url`, `hash`. Passwords and queries are taken out of addresses.
    """
    found = {name: _origin(distribution) for name, distribution in sorted(_distributions().items())}
    return {name: origin for name, origin in found.items() if origin}


def without_secrets(url: str) -> str:
    """An address without password, query and fragment, where pip's users put their tokens.

    The bare user `git` stays, which is the same for everybody who reads over ssh.

    >>> without_secrets("git+https://me:token@example.org/a.git?key=1")
    'git+https://example.org/a.git'
    >>> without_secrets("git+ssh://git@example.org/a.git")
    'git+ssh://git@example.org/a.git'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    if not parts.scheme:  # `user@host:path`, as ssh writes it
        return f"{_kept_user(parts.path)}{parts.path.rpartition('@')[2]}"
    host = f"{_kept_user(parts.netloc)}{parts.netloc.rpartition('@')[2]}"
    return parts._replace(netloc=host, query="", fragment="").geturl()


def _kept_user(address: str) -> str:
    return "git@" if address.rpartition("@")[0] == "git" else ""


def _distributions() -> dict[str, metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name:
            found.setdefault(name, distribution)
    return found


def _origin(distribution: metadata.Distribution) -> dict[str, Any] | None:
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "null")
    except ValueError:
        direct = None
    if not isinstance(direct, dict) or not isinstance(direct.get("url"), str):
        return _source_folder(distribution)
    if isinstance(direct.get("dir_info"), dict):
        folder = Path(unquote(urlsplit(direct["url"]).path))
        return _local(folder, editable=bool(direct["dir_info"].get("editable")))
    address = {"url": without_secrets(direct["url"])}
    if isinstance(direct.get("vcs_info"), dict):
        address["url"] = f"{direct['vcs_info'].get('vcs')}+{address['url']}"
        return address | {"commit": direct["vcs_info"].get("commit_id")}
    archive = direct.get("archive_info")
    return address | {"hash": archive.get("hash") if isinstance(archive, dict) else None}


def _source_folder(distribution: metadata.Distribution) -> dict[str, Any] | None:
    """A distribution whose metadata lie beside its source, as on PYTHONPATH, or by `setup.py develop`."""
    folder = Path(str(distribution.locate_file(""))).absolute()
    paths = sysconfig.get_paths()
    installed = {Path(paths[name]).absolute() for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    if folder in installed or folder.name in ("site-packages", "dist-packages"):
        return None
    return _local(folder, editable=True)


def _local(folder: Path, *, editable: bool) -> dict[str, Any]:
    return {"folder": str(folder), "editable": editable, "git": git.repository(folder)}
