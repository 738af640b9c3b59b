"""How everything here is measured: variants in turn on the same work, and memory in a fresh process a variant.

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

from ficklenet_tf.runs import artifacts, hardware

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
    def size(self):
        """The `Size` that `scale` names."""
        return SIZES[self.scale]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of a variant, round by round: by the clock, and of all cores' work, which other jobs lengthen less."""

    seconds: tuple
    processor: tuple

    @property
    def median(self):
        """Of the seconds."""
        return statistics.median(self.seconds)

    @property
    def processor_median(self):
        """Of the seconds of all cores' work in this process."""
        return statistics.median(self.processor)

    @property
    def spread(self):
        """(Least, greatest) seconds."""
        return min(self.seconds), max(self.seconds)

    def over(self, other):
        """Returns the median over the rounds of this variant's seconds / `other`'s of the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))

    def processor_over(self, other):
        """The same of the seconds of all cores' work."""
        return statistics.median(a / b for a, b in zip(self.processor, other.processor, strict=True))


def compare(functions, rounds, warm=1):
    """Times functions in turn.

    Args:
      functions: {name: function without arguments}; each must wait for its own result (`.numpy()`).
      rounds: timed calls of each; every second round runs backwards.
      warm: untimed calls of each beforehand.

    Returns:
      {name: Timing}.
    """
    for _ in range(warm):
        for function in functions.values():
            function()
    found = {name: [] for name in functions}
    for number in range(rounds):
        for name in list(functions)[::-1 if number % 2 else 1]:
            start, worked = time.perf_counter(), time.process_time()
            functions[name]()
            found[name].append((time.perf_counter() - start, time.process_time() - worked))
    return {name: Timing(*zip(*pairs, strict=True)) for name, pairs in found.items()}


def peak_memory(target, arguments, *, calls=2, cores=None):
    """Runs a variant in a fresh process.

    Args:
      target: "module:function"; the function takes `arguments` by name, prepares what does not count
        (data, networks) and returns the work, a function without arguments.
      arguments: dict of what JSON can hold.
      calls: how often the work is done.
      cores: number of cores that the process may use; None: all.

    Returns:
      dict: "peak_mib" above the prepared process over all calls, "loaded_mib" of the prepared process,
      "seconds", a list, one a call (the first one traces).

    Raises:
      RuntimeError: the process failed; with its last lines.
    """
    command = [sys.executable, "-m", "tools.benchmarks.child", target, json.dumps(arguments), str(calls)]
    if cores is not None:
        command.append(str(cores))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise RuntimeError(f"{target} {arguments}: the process ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def machine():
    """Returns what the figures depend on: processor, cores, memory, versions, date, load; no names or paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {**hardware.describe(), "memory_gib": round(memory / 2**30, 1),
            "load": [round(load, 1) for load in os.getloadavg()], "versions": artifacts.versions(),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
