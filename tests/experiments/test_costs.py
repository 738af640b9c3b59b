"""What a stage cost is kept once, and of what was killed nobody knows it."""

import time

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import costs


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
