"""What of this machine threatens that a run repeats, and whether each block that ships repeats on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassrun import config
from glassrun.errors import WorkerLost
from glassrun.train.launch import ignored_variables, launch

TESTED_TORCH = "2.13.0"
_OFFSETS = [1, 3, 6]  # elements of float32 from a multiple of 64 bytes: 4, 12 and 24 bytes
_LEAST_DISK, _LEAST_SHARED_MEMORY = 2**30, 64 * 2**20  # bytes


def examine() -> dict[str, Any]:
    """Run every block in fresh workers: alone, two at once, and on two threads.

    Returns:
        `environment` as a run records it; `warnings`; `blocks`: for each, whether it repeats under equal conditions
        (`repeats`), wherever in memory its inputs lie (`alignments`), on two threads as on one (`threads`), and the
        `error` that it raised, if any; `repeats`: whether all do.
    """
    alone = _launch(threads=1, workers=1, offsets=[0, 0, *_OFFSETS])
    meeting = ""
    try:
        beside = _launch(threads=1, workers=2, offsets=[0])
    except WorkerLost as error:
        meeting = " ".join(str(error).split())[-300:]
        beside = _launch(threads=1, workers=1, offsets=[0])
    threaded = _launch(threads=2, workers=1, offsets=[0, 0])
    found = {name: _judged(name, alone, beside, threaded) for name in alone["blocks"]}
    return {
        "environment": alone["environment"],
        "warnings": warnings(alone["environment"], alone["indeterministic"], meeting, machine()),
        "blocks": found,
        "repeats": all(block["repeats"] for block in found.values()),
    }


def _launch(*, threads: int, workers: int, offsets: list[int]) -> dict[str, Any]:
    numerics = config.Numerics(threads=threads)
    job = {"do": "glassrun.blocks", "numerics": numerics.model_dump(), "offsets": offsets, "import_path": []}
    # Threads that wait without spinning: on a busy machine the others come to their turn, and no bit depends on it.
    return launch(job, numerics, workers, lambda _: None, variables={"OMP_WAIT_POLICY": "PASSIVE"})


def _judged(
    name: str, alone: Mapping[str, Any], beside: Mapping[str, Any], threaded: Mapping[str, Any]
) -> dict[str, Any]:
    ((first, again, *moved),) = alone["blocks"][name]
    others = [value for (value,) in beside["blocks"][name]]
    ((on_two, on_two_again),) = threaded["blocks"][name]
    error = next((found["errors"][name] for found in (alone, beside, threaded) if name in found["errors"]), None)
    return {
        "repeats": error is None and {first, again, *others} == {first} and on_two == on_two_again,
        "alignments": set(moved) == {first},
        "threads": on_two == first,
        "error": error,
    }


def machine() -> dict[str, Any]:
    """What matters beside the recorded environment: this process's variables, room on the disk and for sharing."""
    shared = Path("/dev/shm")
    return {
        "variables": dict(os.environ),
        "ignored": ignored_variables(config.Numerics()),
        "disk": shutil.disk_usage(Path.cwd()).free,
        "shared_memory": shutil.disk_usage(shared).free if shared.is_dir() else None,
        "git": shutil.which("git"),
    }


def warnings(
    environment: Mapping[str, Any], indeterministic: list[str], meeting: str, here: Mapping[str, Any]
) -> list[str]:
    """One text for each thing that threatens that a run repeats, here or elsewhere, with what to do.

    Arguments:
        environment: of a fresh worker, as `run.json` records it.
        indeterministic: operations that have no deterministic form here.
        meeting: why two workers could not meet; empty if they could.
        here: see `machine`.
    """
    return [
        *_about_numerics(environment["numerics"], environment["cpus"]),
        *_about_cuda(environment["cuda"], environment["numerics"]),
        *(
            [f"no deterministic form here, so a model that uses one is refused: {', '.join(indeterministic)}"]
            if indeterministic
            else []
        ),
        *([f"two workers cannot meet (gloo): {meeting}. Train with --workers 1"] if meeting else []),
        *_about_machine(here),
    ]


def _about_numerics(numerics: Mapping[str, Any], cpus: int) -> list[str]:
    found = []
    torch = numerics["torch"].partition("+")[0]
    if torch != TESTED_TORCH:
        found.append(f"torch is {torch}; glassrun is tested with {TESTED_TORCH}, and another version gives other bits")
    capability = numerics["cpu_capability"]
    if capability not in ("DEFAULT", "AVX2", "NO AVX"):
        found.append(
            f"isa: native is {capability} here: other processors give other bits. Where runs shall repeat on several, "
            "train with --set numerics.isa=avx2"
        )
    if numerics["blas"] == "MKL" and "intel" not in numerics["cpu"].lower():
        found.append(
            f"MKL on {numerics['cpu']}, which is not Intel's, may ignore numerics.isa: products can differ on another "
            "model. What was set is recorded"
        )
    if numerics["machine"] != "x86_64":
        found.append(f"{numerics['machine']} is untested; x86_64 is tested")
    if cpus > 1:
        found.append(
            f"torch outside of runs computes on up to {cpus} threads here, and gradients depend on that number (below: "
            "2 threads). Runs compute on numerics.threads, 1 by default; in a script of your own call "
            "torch.set_num_threads(1)"
        )
    return found


def _about_cuda(cuda: Mapping[str, Any] | None, numerics: Mapping[str, Any]) -> list[str]:
    """Rounding of float32 before products counts where something computes with it."""
    shown = {name: value for name, value in numerics["fp32_precision"].items() if cuda or "mkldnn" in name}
    rounded = [
        f"{name.removeprefix('fp32_precision of ')} to {value}" for name, value in shown.items() if value != "ieee"
    ]
    if not rounded:
        return []
    return [f"float32 is rounded before products: {', '.join(rounded)}. glassrun.seed turns TF32 off in a script"]


def _about_machine(here: Mapping[str, Any]) -> list[str]:
    found = [*here["ignored"]]
    variables = here["variables"]
    if "PYTHONHASHSEED" not in variables:
        found.append(
            "PYTHONHASHSEED is not set: runs set it, but a script of your own that iterates over a set can differ from "
            "one start to the next"
        )
    for name in ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        if variables.get(name, "0") != "0":
            found.append(f"{name}={variables[name]}: TF32 is on whatever a program sets; unset it")
    if here["disk"] < _LEAST_DISK:
        found.append(f"the working folder's disk has {here['disk']:,} bytes left; a full disk interrupts a run")
    if here["shared_memory"] is not None and here["shared_memory"] < _LEAST_SHARED_MEMORY:
        found.append(f"/dev/shm has {here['shared_memory']:,} bytes left; loaders with worker processes need it")
    if here["git"] is None:
        found.append("git is not here: commits are not recorded (the source that ran is)")
    return found


def as_text(values: Mapping[str, Any]) -> str:
    """The same for people: environment, warnings, a table of the blocks."""
    return "\n".join([*_environment_lines(values["environment"]), "", *_warning_lines(values), "", *_table(values)])


def _environment_lines(environment: Mapping[str, Any]) -> list[str]:
    numerics, cuda = environment["numerics"], environment["cuda"]
    rows = [
        ("python", f"{environment['python']} ({environment['python_build']})"),
        ("platform", f"{environment['platform']}, {environment['libc']}"),
        ("torch", f"{numerics['torch']}, oneDNN {numerics['onednn']}, BLAS {numerics['blas']}"),
        ("numpy", numerics["numpy"]),
        ("processor", f"{numerics['cpu']}, {environment['cpus']} cores, torch uses {numerics['cpu_capability']}"),
        ("gpu", ", ".join(cuda["devices"]) + f", driver {cuda['driver']}, cuDNN {cuda['cudnn']}" if cuda else "none"),
        ("packages", f"{len(environment['packages'])} installed"),
    ]
    for name, origin in environment["origins"].items():
        git = origin.get("git") or {}
        commit = f" at commit {git['commit'][:12]}{', changed' if git['changed'] else ''}" if git else ""
        rows.append(("", f"{name} from {origin.get('folder') or origin.get('url')}{commit}"))
    return [f"{name:<11} {text}" for name, text in rows]


def _warning_lines(values: Mapping[str, Any]) -> list[str]:
    return [f"warning: {text}" for text in values["warnings"]] or ["no warnings"]


def _table(values: Mapping[str, Any]) -> list[str]:
    blocks = values["blocks"]
    width = max(map(len, blocks))
    lines = [f"{'block':<{width}}  repeats  any alignment  2 threads as 1"]
    for name, block in blocks.items():
        marks = ["yes" if block[what] else "NO" for what in ("repeats", "alignments", "threads")]
        lines.append(f"{name:<{width}}  {marks[0]:<7}  {marks[1]:<13}  {marks[2]}")
        if block["error"]:
            lines.append(f"  {block['error']}")
    repeating = sum(block["repeats"] for block in blocks.values())
    return [*lines, "", f"{repeating} of {len(blocks)} blocks repeat under equal conditions, forward and backward"]
