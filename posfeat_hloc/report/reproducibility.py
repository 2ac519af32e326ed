"""Sections about how the run was made: its stages, the command to repeat it, versions, configuration."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from posfeat_hloc.errors import Option, StoreError
from posfeat_hloc.report.charts import bars
from posfeat_hloc.report.content import Block, Facts, Section, Text
from posfeat_hloc.report.folder import RunFolder
from posfeat_hloc.stores import FeatureStore


def timing_section(folder: RunFolder, png: Path) -> Section | None:
    """Seconds of each stage in the last run."""
    seconds = folder.summary.get("seconds")
    if not seconds:
        return None
    kept = set(folder.summary.get("kept_from_earlier_run", ()))
    values = {f"{stage} (kept)" if stage in kept else stage: float(value) for stage, value in seconds.items()}
    caption = f"{sum(values.values()):.1f} s in the last run; kept: nothing had to be recomputed."
    return Section("Time", [bars(png / "stage_times.png", values, "seconds", "Seconds of each stage", caption)])


def repeat_section(folder: RunFolder) -> Section:
    """What to type to make this run again."""
    blocks: list[Block] = []
    if folder.command:
        blocks.append(Text(command_line(folder.kind, folder.command), "code"))
    facts = [(name, str(version)) for name, version in folder.summary.get("versions", {}).items()]
    if "seed" in folder.command:
        facts.append(("seed", str(folder.command["seed"])))
        if folder.command.get("threads", 1) != 1:
            facts.append(
                ("to the last digit", f"add {Option('threads', 1)}: the seed alone leaves the order of sums open")
            )
    if facts:
        blocks.append(Facts(facts))
    if (features := folder.file("features.h5")) is not None:
        try:
            with FeatureStore(features) as store:
                configuration = store.configuration
            if configuration:
                blocks.append(Text(json.dumps(configuration, indent=1, sort_keys=True), "code"))
        except StoreError as error:
            blocks.append(Text(str(error), "warning"))
    if not blocks:
        blocks.append(Text("Neither the command nor a configuration is recorded.", "warning"))
    return Section("To repeat this run", blocks)


def command_line(kind: str, command: dict[str, Any]) -> str:
    """The command with all options that were set, defaults among them."""
    if command.get("video") or command.get("demo"):  # the images are the run's own
        command = {**command, "images": command.get("photos")}
    command = {name: value for name, value in command.items() if name != "photos"}
    parts = [f"posfeat-hloc {kind}"]
    for name, value in command.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False or value == [] or name == "quiet":
            continue
        if value is True:
            parts.append(option)
        elif isinstance(value, (list, tuple)):
            values = [str(v) for v in value]
            # intrinsics are one argument with commas; lists of features are several
            parts.append(f"{option} {','.join(values) if name == 'camera_params' else shlex.join(values)}")
        else:
            parts.append(f"{option} {shlex.quote(str(value))}")
    return " ".join(parts)
