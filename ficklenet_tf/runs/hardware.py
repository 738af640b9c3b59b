"""What a run depends on besides its settings: the processor and what it can do, and whether oneDNN is on."""

import os
import pathlib
import platform
from typing import Any

_BFLOAT16 = ("avx512_bf16", "amx_bf16")  # a processor's instructions, in Linux's words
_SHOWN = ("avx2", "avx512f", "avx512_vnni", *_BFLOAT16)


def _cpuinfo() -> dict[str, str]:
    """Returns the first processor's facts as Linux gives them, {} elsewhere."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def onednn() -> bool:
    """Whether TensorFlow computes with oneDNN in this process: as TF_ENABLE_ONEDNN_OPTS says, else by its own rule."""
    from tensorflow.python.util import _pywrap_util_port  # the only place that knows TensorFlow's own choice

    return bool(_pywrap_util_port.IsMklEnabled())


def describe() -> dict[str, Any]:
    """Returns {"processor", "cores", "instructions", "onednn", "gpus"}: what JSON can hold, no names or paths."""
    facts = _cpuinfo()
    flags = facts.get("flags", "").split()
    return {"processor": facts.get("model name") or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "instructions": [name for name in _SHOWN if name in flags], "onednn": onednn(),
            "gpus": [gpu.get("device_name", "GPU") for gpu in _gpus()]}


def bfloat16_unit() -> str:
    """Returns what computes in bfloat16 here, in words, or "" where nothing does.

    That is a GPU of compute capability 8 (Ampere) or newer, or a processor with such instructions while oneDNN, which
    uses them, is on. Elsewhere bfloat16 works and is no faster than float32.
    """
    gpus = _gpus()
    if gpus:
        return "the GPU" if all(gpu.get("compute_capability", (0, 0)) >= (8, 0) for gpu in gpus) else ""
    instructions = [name for name in _BFLOAT16 if name in _cpuinfo().get("flags", "").split()]
    return f"the processor's {instructions[0]}" if instructions and onednn() else ""


def restart_peak() -> None:
    """Begins anew to look for this process' greatest memory; nothing where the system cannot (Linux can)."""
    path = pathlib.Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mib() -> float | None:
    """Returns this process' greatest resident memory in MiB since `restart_peak`; None where that is not known."""
    path = pathlib.Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _gpus() -> list[dict[str, Any]]:
    """What TensorFlow knows of each GPU; it is imported here, so that those who only write files need none of it."""
    import tensorflow as tf

    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
