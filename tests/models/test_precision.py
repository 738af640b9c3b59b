"""Which number type "auto" is, on processors that are not this one, and that a run keeps its choice."""

import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from ficklenet_tf import presets
from ficklenet_tf.models import classifier, precision
from ficklenet_tf.runs import artifacts, hardware

AVX2 = "sse4_2 avx avx2 fma"
VNNI = f"{AVX2} avx512f avx512_vnni"
BF16 = f"{VNNI} avx512_bf16"


@pytest.fixture
def machine(monkeypatch):
    """Sets the processor's flags, and whether oneDNN is on."""
    def set_processor(flags, onednn=True):
        monkeypatch.setattr(hardware, "_cpuinfo", lambda: {"flags": flags, "model name": "made up"})
        monkeypatch.setattr(hardware, "onednn", lambda: onednn)
    monkeypatch.setattr(hardware, "_gpus", list)
    return set_processor


@pytest.mark.parametrize("flags, onednn, unit", [
    (AVX2, False, ""), (AVX2, True, ""), (VNNI, True, ""), (BF16, True, "avx512_bf16"), (BF16, False, ""),
    (f"{AVX2} amx_tile amx_bf16", True, "amx_bf16"), ("", True, "")])
def test_bfloat16_where_processor_and_onednn_have_it(machine, flags, onednn, unit):
    machine(flags, onednn)
    assert hardware.bfloat16_unit() == (f"the processor's {unit}" if unit else "")
    described = hardware.describe()
    assert described["onednn"] is onednn and described["processor"] == "made up" and described["cores"] >= 1
    assert described["instructions"] == [name for name in hardware._SHOWN if name in flags.split()]


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_whether_onednn_is_on_is_asked_of_tensorflow(onednn):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("TF_ENABLE_ONEDNN_OPTS counts on x86 only")
    code = "from ficklenet_tf.runs import hardware; print(int(hardware.onednn()))"
    process = subprocess.run([sys.executable, "-c", code],
                             cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True,
                             env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn})
    assert process.stdout.split()[-1] == onednn


@pytest.mark.parametrize("capability, unit", [((7, 5), ""), ((8, 0), "the GPU"), ((9, 0), "the GPU")])
def test_bfloat16_on_gpus_from_ampere_on(monkeypatch, capability, unit):
    monkeypatch.setattr(hardware, "_gpus", lambda: [{"compute_capability": capability}])
    assert hardware.bfloat16_unit() == unit


def test_a_run_keeps_the_first_stages_choice_on_another_machine(machine, tmp_path, capsys):
    machine(BF16)
    assert precision.settled(presets.CPU.classifier, tmp_path).precision == "bfloat16"
    assert "precision: bfloat16 (the processor's avx512_bf16)" in capsys.readouterr().err
    machine(AVX2)
    assert precision.settled(presets.CPU.segmenter, tmp_path).precision == "bfloat16"
    assert capsys.readouterr().err == ""  # said once
    assert precision.settled(presets.CPU.segmenter, tmp_path / "other").precision == "float32"
    written = json.loads((tmp_path / "precision.json").read_text())
    assert written["precision"] == "bfloat16" and "avx512_bf16" in written["hardware"]["instructions"]
    assert precision.settled(presets.PAPER.segmenter, tmp_path) is presets.PAPER.segmenter


def test_a_segmenter_takes_the_precision_that_its_classifier_was_given(machine, tmp_path, capsys):
    machine(BF16)
    artifacts.write_json(tmp_path / "classifier" / "settings.json", {"config": {"precision": "float16"}})
    assert precision.settled(presets.CPU.segmenter, tmp_path).precision == "float16"
    assert "precision: float16 (as the classifier's)" in capsys.readouterr().err


def test_auto_must_be_settled_before_a_network_is_built():
    with pytest.raises(ValueError, match="precision: expected one of .* .or auto for a training., found 'auto'"):
        classifier.build(presets.CPU.classifier, 3)
