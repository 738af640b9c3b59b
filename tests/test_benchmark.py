"""The benchmark: each section runs at a tiny size and its JSON is complete; times and fits are worked out right."""

import importlib
import json
import os
import types

import pytest

from ficklenet_tf.runs import artifacts
from tools import words
from tools.benchmarks import child, measure, scaling, sections, tables

QUICK = [name for name in words.SECTIONS if name != "peers"]


@pytest.mark.parametrize("section", QUICK)
def test_a_section_runs_and_its_json_is_complete(section, tmp_path, monkeypatch, request):
    if section == "crf":
        request.getfixturevalue("reference_crf")
    # Some fifty fresh processes would take minutes: here the variants run in this one, below one really is fresh.
    def here(target, arguments, **_):
        result = child.run(target, arguments, 2, None)
        return {**result, "peak_mib": max(result["peak_mib"], 1.0)}  # this process may grow by nothing

    monkeypatch.setattr(measure, "peak_memory", here)
    options = measure.Options(output_dir=tmp_path, rounds=1, scale="tiny")
    document = tmp_path / "document.md"
    document.write_text("".join(f"<!-- benchmark:{name} -->\nOLD TABLE\n<!-- /benchmark:{name} -->\n"
                                for name in (section, "goals")) + "after\n")
    sections.run([section], options, document)
    result = json.loads((tmp_path / "benchmark.json").read_text())[section]
    assert result["scale"] == "tiny" and result["seconds"] > 0
    assert {"processor", "cores", "onednn", "memory_gib", "load", "versions", "date"} <= result["machine"].keys()
    for table in result["tables"]:
        assert table["title"] and table["rows"]
        for row in table["rows"]:
            assert len(row) == len(table["columns"])
            assert all(value is None or isinstance(value, str) or value == value for value in row)
        for goal in table["goals"]:
            assert goal["ratio"] > 0 and goal["met"] in (True, False)
        assert table["title"] in document.read_text()
    plots = sum(table["plot"] is not None for table in result["tables"])
    assert len(list(tmp_path.glob("plots/*.png"))) == plots
    assert "OLD TABLE" not in document.read_text() and document.read_text().endswith("after\n")


def test_peers_runs_where_its_environment_is(tmp_path):
    python = os.environ.get("FICKLENET_PEERS_PYTHON")
    if not python:
        pytest.skip("no environment with requirements-peers.txt: expected its Python in FICKLENET_PEERS_PYTHON")
    options = measure.Options(output_dir=tmp_path, rounds=1, scale="tiny", peers_python=python)
    table = sections.run(["peers"], options)["peers"]["tables"][0]
    assert len(table["rows"]) == 8


def test_peers_without_their_environment_are_an_error():
    for python, expected in ((None, "expected --peers_python"), ("/nowhere/python", "requirements-peers.txt")):
        options = measure.Options(output_dir=None, scale="tiny", peers_python=python)
        with pytest.raises(ValueError, match=expected):
            importlib.import_module("tools.benchmarks.peers").run(options)


def test_variants_take_turns_and_are_compared_round_by_round(monkeypatch):
    clock, order = iter([0, 1, 1, 3, 10, 14, 20, 22, 30, 33, 40, 46]), []
    monkeypatch.setattr(measure, "time", types.SimpleNamespace(perf_counter=lambda: next(clock), process_time=int))
    functions = {name: lambda name=name: order.append(name) for name in "ab"}
    times = measure.compare(functions, rounds=3)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]  # the first two are not timed
    assert times["a"].seconds == (1, 2, 3) and times["b"].seconds == (2, 4, 6)
    assert times["b"].over(times["a"]) == 2 and times["b"].median == 4 and times["b"].spread == (2, 6)


def test_memory_of_a_fresh_process(tmp_path, monkeypatch):
    (tmp_path / "allocating.py").write_text(
        "import os\n"
        "def work(mebibytes):\n"
        "    if len(os.sched_getaffinity(0)) > 1: raise ValueError('more than one core')\n"
        "    return lambda: len(b'1' * (mebibytes * 2**20))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = measure.peak_memory("allocating:work", {"mebibytes": 64}, calls=3, cores=1)
    assert 60 < result["peak_mib"] < 70 and len(result["seconds"]) == 3
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(RuntimeError, match="more than one core"):
            measure.peak_memory("allocating:work", {"mebibytes": 1})


def test_orders_of_growth_are_fitted():
    assert scaling.slope([(1, 3), (2, 12), (4, 48)]) == pytest.approx(2)
    curve = tables.Table("t", ("n", "ms"), [[1, 5.0], [10, 5.0], [100, 50.0], [1000, 500.0]],
                         plot=tables.Plot("n", ("ms",)))
    (_, _, overall, at_start, at_end, turn), = scaling.orders([curve]).rows
    assert (at_start, at_end, turn) == (pytest.approx(0), pytest.approx(1), 10) and 0.6 < overall < 0.8


def test_goals_and_marks():
    goal = tables.Goal("a", "b", 1.1, 1.2)
    assert not goal.met and tables.Goal("a", "b", 500, 600, at_least=True).met
    goal_table = tables.goals_table([tables.as_json(tables.Table("t", ("x",), [[1]], goals=(goal,)))["goals"][0]])
    assert goal_table.rows == [["a", "b", "at most 1.1", 1.2, "not met"]]
    with_onednn, without = ({"machine": {"onednn": on}, "scale": "full", "tables": [{"goals": [
        tables.as_json(tables.Table("t", ("x",), [[1]], goals=(tables.Goal(name, "b", 1.1, ratio),)))["goals"][0]
        for name in names]}]} for on, ratio, names in ((True, 1.2, "ac"), (False, 0.9, "a")))
    both = sections.goals({"crf": with_onednn}, {"crf": without}, "full")
    assert both.columns == ("what", "against", "goal", "oneDNN on", "", "oneDNN off", " ")
    assert both.rows == [["a", "b", "at most 1.1", 1.2, "not met", 0.9, "met"],
                         ["c", "b", "at most 1.1", 1.2, "not met", None, None]]
    with pytest.raises(ValueError, match="benchmark:head"):
        tables.marked("<!-- benchmark:crf --><!-- /benchmark:crf -->", "head")
    with pytest.raises(ValueError, match="expected 2 values"):
        tables.Table("t", ("x", "y"), [[1]])


def test_an_earlier_section_is_kept(tmp_path):
    earlier = {"machine": measure.machine(), "scale": "tiny", "rounds": 1, "seconds": 1.0,
               "tables": [tables.as_json(tables.Table("earlier", ("x",), [[1]],
                                                      goals=(tables.Goal("a", "b", 1, 0.5),)))]}
    artifacts.write_json(tmp_path / "benchmark.json", {"localization": earlier})
    results = sections.run([], measure.Options(output_dir=tmp_path, scale="tiny"))
    assert results["localization"]["tables"][0]["title"] == "earlier"
    page = (tmp_path / "tables.md").read_text()
    assert "earlier" in page and "| a | b | at most 1 | 0.5 | met |" in page
    sections.run([], measure.Options(output_dir=tmp_path))
    assert "| a | b |" not in (tmp_path / "tables.md").read_text()  # a smoke test's goals are none
