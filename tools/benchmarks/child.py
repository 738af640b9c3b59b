"""The fresh process in which `measure.peak_memory` runs one variant; prints one line of JSON."""

import importlib
import json
import os
import pathlib
import sys
import time
from typing import Any


def resident(name: str) -> float:
    """Returns "VmRSS" (memory now) or "VmHWM" (its peak) of this process in MiB; Linux only."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def run(target: str, arguments: dict[str, Any], calls: int, cores: int | None) -> dict[str, Any]:
    """Prepares a variant, does its work; see `measure.peak_memory`."""
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])  # before TensorFlow counts its threads
    module, function = target.split(":")
    work = getattr(importlib.import_module(module), function)(**arguments)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
    before, seconds = resident("VmRSS"), []
    for _ in range(calls):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {"peak_mib": resident("VmHWM") - before, "loaded_mib": before, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]),
                         int(sys.argv[4]) if len(sys.argv) > 4 else None)))
