"""How everything here is measured: variants in turn on the same work, and memory in a fresh process per variant.

Other work on the machine comes and goes, so variants take turns, forwards and backwards, and two of them are
compared by the median of their ratios round by round, not by times taken minutes apart.
"""

import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ficklenet_tf.runs import artifacts, hardware

Work = Callable[[], object]  # does what is measured once, and waits for its own result (`.numpy()`)
ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Size:
    """The size at which everything is compared."""

    backbone: str
    side: int  # of the network's input, pixels
    grid: int  # of the feature map
    channels: int
    kernel_size: int  # s
    rate: float  # p
    num_maps: int  # N
    classes: int  # foreground
    tags: int  # that an image has
    batch: int


SIZES = {"full": Size("vgg16", 321, 41, 512, 9, 0.9, 200, 20, 2, 10),  # the paper's
         "tiny": Size("small", 65, 9, 128, 3, 0.9, 8, 3, 2, 2)}  # for the smoke test


@dataclasses.dataclass(frozen=True)
class Options:
    """What a section may use.

    Attributes:
      output_dir: the run's directory.
      photo_dir: directory of JPEGs, or None: drawn ones.
      run_dir: a finished run whose networks are taken, or None.
      weights: of the backbone, see `pretrained.load_weights`; "" for random ones.
      rounds: timings of which the median is given.
      scale: a key of `SIZES`.
      peers_python: the Python of an environment with requirements-peers.txt, or None.
    """

    output_dir: pathlib.Path
    photo_dir: pathlib.Path | None = None
    run_dir: pathlib.Path | None = None
    weights: str = ""
    rounds: int = 5
    scale: str = "full"
    peers_python: str | None = None

    @property
    def size(self) -> Size:
        """The `Size` that `scale` names."""
        return SIZES[self.scale]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a variant, round by round: by the clock, and of all cores' work, which other jobs lengthen less."""

    seconds: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)

    @property
    def processor_median(self) -> float:
        """Of the seconds of all cores' work in this process."""
        return statistics.median(self.processor)

    @property
    def spread(self) -> tuple[float, float]:
        """(Least, greatest) seconds."""
        return min(self.seconds), max(self.seconds)

    def ratios(self, reference: "Timing") -> list[float]:
        """Returns this variant's seconds / `reference`'s of the same round, from the least to the greatest."""
        return sorted(a / b for a, b in zip(self.seconds, reference.seconds, strict=True))

    def over(self, reference: "Timing") -> float:
        """Returns the median of `ratios`, which need not be the ratio of the medians."""
        return statistics.median(self.ratios(reference))

    def processor_over(self, reference: "Timing") -> float:
        """The same of the seconds of all cores' work."""
        return statistics.median(a / b for a, b in zip(self.processor, reference.processor, strict=True))


def compare(functions: Mapping[str, Work], rounds: int, warm: int = 1) -> dict[str, Timing]:
    """Times functions in turn.

    Args:
      functions: {name: `Work`}.
      rounds: timed calls of each; every second round runs backwards.
      warm: untimed calls of each beforehand.

    Returns:
      {name: Timing}.
    """
    for _ in range(warm):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    processor: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions)[::-1 if number % 2 else 1]:
            start, worked = time.perf_counter(), time.process_time()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - worked)
    return {name: Timing(tuple(seconds[name]), tuple(processor[name])) for name in functions}


def peak_memory(target: str, arguments: dict[str, Any], *, calls: int = 2,
                cores: int | None = None) -> dict[str, Any]:
    """Runs a variant in a fresh process.

    Args:
      target: "module:function"; the function takes `arguments` by name, prepares what does not count
        (data, networks) and returns the `Work`.
      arguments: dict of what JSON can hold.
      calls: how often the work is done.
      cores: number of cores that the process may use; None: all.

    Returns:
      dict: "peak_mib" above the prepared process over all calls, "loaded_mib" of the prepared process,
      "seconds", a list, one per call (the first one traces).

    Raises:
      RuntimeError: the process failed; with its last lines.
    """
    command = [sys.executable, "-m", "tools.benchmarks.child", target, json.dumps(arguments), str(calls)]
    if cores is not None:
        command.append(str(cores))
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                              env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if finished.returncode:
        raise RuntimeError(f"{target} {arguments}: the process ended with {finished.returncode}:\n"
                           f"{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores, memory, versions, date, load; no names or paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {**hardware.describe(), "memory_gib": round(memory / 2**30, 1),
            "load": [round(load, 1) for load in os.getloadavg()], "versions": artifacts.versions(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
