"""What is not here as it was where a run was recorded, in words; said before a replay and when a run goes on."""

from __future__ import annotations

from glassrun.record import code, environment
from glassrun.record.run_folder import RunFolder


def numerics_notes(folder: RunFolder) -> list[str]:
    found = environment.differences(folder.header["environment"]["numerics"], environment.numerics())
    if not found:
        return []
    return [
        "not promised here: equal bits are promised on the recorded numerics only, and here these differ: "
        + "; ".join(found)
    ]


def code_notes(folder: RunFolder) -> list[str]:
    found = code.differences(folder.header["code"], code.collect())
    return [f"the code is not the recorded one (that is in code.zip): {'; '.join(found[:5])}"] if found else []
