"""The form of a `run.json` that somebody else wrote. Its checksum tells damage; it does not tell who made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from glassrun.errors import RunFolderError

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Code(_Form):
    digest: Digest
    files: dict[str, Digest]
    left_out: dict[str, str]


class _Environment(_Form):
    python: str
    packages: dict[str, str]
    origins: dict[str, dict[str, Any]]
    numerics: dict[str, Any]


class _Initial(_Form):
    parameters: Fingerprint
    buffers: Fingerprint


class _Header(_Form):
    name: str
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    status: Literal["preparing", "running", "complete", "stopped"]
    config: dict[str, Any]
    import_path: list[str]
    identity: Digest
    initial: _Initial
    data: dict[str, Any]
    data_digest: Digest
    data_keys: Digest
    facts: dict[str, int]
    encoding: dict[str, Any]
    code: _Code
    environment: _Environment
    sessions: list[dict[str, Any]]
    reason: str | None = None
    steps: int | None = None
    chain: Digest | None = None
    metrics_digest: Digest | None = None


def check(header: Mapping[str, Any], where: str) -> None:
    """See that all fields of a run that has begun are there, each of its type.

    Raises:
        RunFolderError: one is not.
    """
    try:
        _Header.model_validate(header)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RunFolderError(f"{where}: not the header of a run: {name!r}: {first['msg']}") from None
