"""What a stage cost is kept once, and of what was killed nobody knows it."""

import time

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import costs
from ficklenet_tf.runs import artifacts


def test_a_cost_is_measured_once_and_not_of_what_goes_on(tmp_path):
    def make(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return name

    assert costs.measured(tmp_path, "a", lambda: make("a")) == "a"
    cost = costs.of(tmp_path, ["a"])
    assert cost["seconds"] >= 0 and (cost["peak_mib"] > 10 or cost["peak_mib"] == 0)
    costs.measured(tmp_path, "a", lambda: make("a"))
    assert costs.of(tmp_path, ["a"]) == cost
    make("b")  # begun before anybody looked
    costs.measured(tmp_path, "b", lambda: make("b"))
    with pytest.raises(KeyboardInterrupt):
        costs.measured(tmp_path, "c", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    costs.measured(tmp_path, "c", lambda: make("c"))
    assert costs.of(tmp_path, ["b"]) is None and costs.of(tmp_path, ["a", "c"]) is None
    costs.measured(tmp_path, "d", lambda: make("d"))
    with pytest.raises(UserError):
        costs.measured(tmp_path, "e", lambda: (_ for _ in ()).throw(UserError("a setting")))
    costs.measured(tmp_path, "e", lambda: make("e"))
    assert costs.of(tmp_path, ["e"])  # nothing was made when it was refused
    both = costs.of(tmp_path, ["a", "d"])
    assert both["seconds"] == pytest.approx(cost["seconds"] + costs.of(tmp_path, ["d"])["seconds"])
    (tmp_path / "a").rmdir()  # and is made anew
    costs.measured(tmp_path, "a", lambda: (make("a"), time.sleep(0.2)))
    assert costs.of(tmp_path, ["a"])["seconds"] >= 0.2 > cost["seconds"]


def test_costs_of_stages_are_added_and_of_their_memory_the_greatest_counts(tmp_path):
    for name, cost in {"a": (3.0, 5.0, 100.0), "b": (4.0, 1.0, 300.0), "c": (2.0, 2.0, None)}.items():
        artifacts.write_json(tmp_path / costs.DIRECTORY / f"{name}.json",
                             dict(zip(("seconds", "processor_seconds", "peak_mib"), cost, strict=True)))
    assert costs.of(tmp_path, ["a", "b", "c"]) == {"seconds": 9.0, "processor_seconds": 8.0, "peak_mib": 300.0}
    assert costs.of(tmp_path, ["a", "c"])["peak_mib"] == 100.0 and costs.of(tmp_path, ["a", "d"]) is None


def test_a_stage_costs_its_own_processor_time_and_its_own_peak(tmp_path, monkeypatch):
    restarted = []
    monkeypatch.setattr(costs.hardware, "restart_peak", lambda: restarted.append("anew"))
    monkeypatch.setattr(costs.hardware, "peak_mib", lambda: 10.0 + len(restarted))

    def make():
        assert restarted == ["anew"]
        (tmp_path / "a").mkdir()
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    costs.measured(tmp_path, "a", make)
    cost = costs.of(tmp_path, ["a"])
    assert cost["processor_seconds"] >= 0.2 and cost["seconds"] >= 0.1 and cost["peak_mib"] == 11.0
