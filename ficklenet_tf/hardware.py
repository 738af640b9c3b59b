"""What a run depends on beside its settings: the processor and what it can do, and whether oneDNN is on."""

import os
import pathlib
import platform

import tensorflow as tf

# In Linux's words: one of these makes TensorFlow turn oneDNN on by itself, and one of those compute in bfloat16.
_ONEDNN_BY_ITSELF = ("avx512_vnni", "avx_vnni", "avx512_4vnniw", "avx512_4fmaps", "avx512_bf16", "amx_tile",
                     "amx_int8", "amx_bf16")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_SHOWN = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def _cpuinfo():
    """Returns the first processor's facts as Linux gives them, {} elsewhere."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def onednn():
    """Whether TensorFlow computes by oneDNN on this processor: as TF_ENABLE_ONEDNN_OPTS says, else by its own rule."""
    wanted = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    if wanted in ("0", "false") or platform.machine() not in ("x86_64", "AMD64"):
        return False
    return wanted in ("1", "true") or not set(_ONEDNN_BY_ITSELF).isdisjoint(_cpuinfo().get("flags", "").split())


def describe():
    """Returns {"processor", "cores", "instructions", "onednn", "gpus"}: what JSON can hold, no names or paths."""
    facts = _cpuinfo()
    flags = facts.get("flags", "").split()
    return {"processor": facts.get("model name") or platform.machine(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "instructions": [name for name in _SHOWN if name in flags], "onednn": onednn(),
            "gpus": [_details(gpu).get("device_name", "GPU") for gpu in tf.config.list_physical_devices("GPU")]}


def bfloat16_unit():
    """Returns what computes in bfloat16 here, in words, or "" where nothing does.

    That is a GPU of compute capability 8 (Ampere) or newer, or a processor with such instructions while oneDNN, which
    uses them, is on. Elsewhere bfloat16 works and is no faster than float32.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return "the GPU" if all(_details(gpu).get("compute_capability", (0, 0)) >= (8, 0) for gpu in gpus) else ""
    found = [name for name in _BFLOAT16 if name in _cpuinfo().get("flags", "").split()]
    return f"the processor's {found[0]}" if found and onednn() else ""


def _details(gpu):
    return tf.config.experimental.get_device_details(gpu)
