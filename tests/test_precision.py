"""Which number type "auto" is, on processors that are not this one, and that a run keeps its choice."""

import json

import pytest

from ficklenet_tf import classifier, hardware, precision, presets

AVX2 = "sse4_2 avx avx2 fma"
VNNI = f"{AVX2} avx512f avx512_vnni"
BF16 = f"{VNNI} avx512_bf16"


@pytest.fixture
def machine(monkeypatch):
    """Sets the processor's flags and TF_ENABLE_ONEDNN_OPTS as this module sees them."""
    def become(flags, onednn=None, architecture="x86_64"):
        monkeypatch.setattr(hardware, "_cpuinfo", lambda: {"flags": flags, "model name": "made up"})
        monkeypatch.setattr(hardware.platform, "machine", lambda: architecture)
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        if onednn is not None:
            monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: [])
    return become


@pytest.mark.parametrize("flags, onednn, on, unit", [
    (AVX2, None, False, ""), (AVX2, "1", True, ""), (VNNI, None, True, ""), (BF16, None, True, "avx512_bf16"),
    (BF16, "0", False, ""), (f"{AVX2} amx_tile amx_bf16", None, True, "amx_bf16")])
def test_bfloat16_where_processor_and_onednn_have_it(machine, flags, onednn, on, unit):
    machine(flags, onednn)
    assert hardware.onednn() is on
    assert hardware.bfloat16_unit() == (f"the processor's {unit}" if unit else "")
    assert hardware.describe()["onednn"] is on and hardware.describe()["processor"] == "made up"


def test_elsewhere_than_on_x86_there_is_no_onednn(machine):
    machine("", "1", architecture="arm64")
    assert not hardware.onednn() and not hardware.bfloat16_unit()


@pytest.mark.parametrize("capability, unit", [((7, 5), ""), ((8, 0), "the GPU"), ((9, 0), "the GPU")])
def test_bfloat16_on_gpus_from_ampere_on(monkeypatch, capability, unit):
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(hardware, "_details", lambda gpu: {"compute_capability": capability})
    assert hardware.bfloat16_unit() == unit


def test_a_run_keeps_the_first_stages_choice_on_another_machine(machine, tmp_path, capsys):
    machine(BF16)
    first = precision.settled(presets.CPU.classifier, tmp_path)
    assert first.precision == "bfloat16"
    assert "precision: bfloat16 (the processor's avx512_bf16)" in capsys.readouterr().err
    machine(AVX2)
    assert precision.settled(presets.CPU.segmenter, tmp_path).precision == "bfloat16"
    assert capsys.readouterr().err == ""  # said once
    assert precision.settled(presets.CPU.segmenter, tmp_path / "other").precision == "float32"
    written = json.loads((tmp_path / "precision.json").read_text())
    assert written["precision"] == "bfloat16" and "avx512_bf16" in written["hardware"]["instructions"]
    assert precision.settled(presets.PAPER.segmenter, tmp_path) is presets.PAPER.segmenter


def test_auto_must_be_settled_before_a_network_is_built():
    with pytest.raises(ValueError, match="precision: expected one of float32, bfloat16, float16, found 'auto'"):
        classifier.build(presets.CPU.classifier, 3)
