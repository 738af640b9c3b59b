"""Tables of several parts joined are the table that one run over all the seeds would have written."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import joined, row_claims, tables
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.systems import SYSTEMS

HIGH, LOW = (0.61, 0.66, 0.64, 0.65, 0.63), (0.55, 0.56, 0.58, 0.52, 0.57)


def _table(seeds, threshold=0.2):
    high, low = (Measured(tuple(values[seed] for seed in seeds)) for values in (HIGH, LOW))
    return tables.Table("table5", "Table 5: made up", (
        {"system": "a", "mIoU": high, "threshold": threshold}, {"system": "b", "mIoU": low, "threshold": None},
        {"system": "not run here"}), (Claim("a above b", high, low),), ("Made up.",), tuple(seeds))


def _written(directory, seeds, **options):
    tables.write(_table(seeds, **options), directory)
    return directory / "table5.json"


def test_parts_joined_are_the_whole(tmp_path):
    parts = [joined.read(_written(tmp_path / str(k), seeds)) for k, seeds in enumerate(((0, 1), (2, 3, 4)))]
    whole = joined.join(parts)
    assert tables.markdown(whole) == tables.markdown(_table(range(5)))
    assert "over 5 random seeds: 0, 1, 2, 3, 4" in tables.markdown(whole)
    verdicts = [each.verdict for table in (parts[0], whole) for each in tables.judge(table.claims)]
    assert verdicts == ["direction: agrees", "agrees"], "two seeds say a direction, five decide"
    assert joined.join(parts[:1]) == parts[0]
    assert [made["random_seeds"] for made in whole.made_on] == [[0, 1], [2, 3, 4]]


def _of_systems(directory, seeds, **scores):
    """A part of Table 1: system -> its score with the first random seed, 0.01 more with each further one."""
    rows = {key: {"system": SYSTEMS[key].title, "val mIoU": Measured(tuple(score + 0.01 * seed for seed in seeds))}
            for key, score in scores.items()}
    tables.write(tables.Table("table1", "Table 1", (*rows.values(), {"system": "another, not run here"}),
                              row_claims.of_systems(rows.values()), ("Made up.",), seeds), directory)
    return joined.read(directory / "table1.json")


def test_parts_of_other_systems_are_the_whole(tmp_path):
    scores = {"ficklenet": 0.6, "deterministic": 0.5, "mdc": 0.4, "ficklenet_mdc": 0.7}
    whole = _of_systems(tmp_path, (0, 1), **{key: scores[key] for key in SYSTEMS if key in scores})
    parts = [_of_systems(tmp_path, seeds, **{key: scores[key] for key in keys})
             for seeds in ((0,), (1,)) for keys in (("ficklenet_mdc", "deterministic"), ("ficklenet",), ("mdc",))]
    made = joined.join(parts)
    assert tables.markdown(made) == tables.markdown(whole) and len(made.claims) == 2 and len(made.rows) == 5
    assert [made["random_seeds"] for made in made.made_on] == [[0]] * 3 + [[1]] * 3
    backwards = _of_systems(tmp_path, (0,), **dict(reversed(scores.items())))
    assert tables.markdown(joined.join([backwards, *parts[3:]])) == tables.markdown(whole)
    with pytest.raises(UserError, match="systems of their own, found MDC .*measured differently"):
        joined.join([*parts, _of_systems(tmp_path, (0,), mdc=0.41)])
    with pytest.raises(UserError, match="parts of equal rows"):
        joined.join(parts[:-1])
    table5 = dataclasses.replace(_table((0,)), rows=({"selection": "a"},), claims=())
    with pytest.raises(UserError, match=r"random seeds of their own, found \[0\] and \[0\]"):
        joined.join([table5, table5])


def test_a_claim_is_between_the_rows_in_its_order_with_the_crf():
    """FickleNet is 10 above with the CRF, and 20 below without."""
    rows = [{"system": SYSTEMS[key].title, "val mIoU": Measured((plain,)), "val mIoU with CRF": Measured((refined,)),
             "MiB": Measured((9.0,))}
            for key, plain, refined in (("ficklenet", 0.3, 0.8), ("deterministic", 0.5, 0.7))]
    for order in (rows, rows[::-1]):
        claim, = row_claims.of_systems(order)
        assert claim.text == (f"{SYSTEMS['ficklenet'].title}, above {SYSTEMS['deterministic'].title}, "
                              "val mIoU with CRF")
        assert (claim.greater.values, claim.less.values) == ((0.8,), (0.7,)) and claim.difference > 0


def test_seeds_stay_paired_in_any_order_of_the_parts(tmp_path):
    parts = [joined.read(_written(tmp_path / str(k), seeds)) for k, seeds in enumerate(((3, 4), (0, 1, 2)))]
    claim = joined.join(parts).claims[0]
    assert claim.greater.values == pytest.approx([HIGH[seed] for seed in (3, 4, 0, 1, 2)])
    assert claim.p_value == pytest.approx(_table(range(5)).claims[0].p_value)


def test_a_number_chosen_in_each_part_is_kept_of_each(tmp_path):
    parts = [joined.read(_written(tmp_path / str(seed), [seed], threshold=0.1 * (seed + 1))) for seed in (0, 1)]
    assert joined.join(parts).rows[0]["threshold"] == "0.1 / 0.2"
    assert joined.join(parts).rows[1]["threshold"] is None


def test_a_cost_is_that_of_the_parts_that_know_it(tmp_path):
    costs = (Measured((4.0,), 1, 1), None, Measured((5.0,), 1, 1))
    parts = []
    for seed, cost in enumerate(costs):
        table = _table([seed])
        rows = ({**table.rows[0], "MiB": cost, "of all": cost}, *table.rows[1:])
        tables.write(dataclasses.replace(table, rows=rows), tmp_path / str(seed))
        parts.append(joined.read(tmp_path / str(seed) / "table5.json"))
    row = joined.join(parts).rows[0]
    assert str(row["MiB"]) == "4.5 ± 0.7" and row["of all"] == "4.0 / – / 5.0"  # no other number may be missing
    assert joined.join(parts[1:2]).rows[0]["MiB"] is None


def test_what_does_not_belong_together_is_refused(tmp_path):
    part = joined.read(_written(tmp_path, (0, 1)))
    with pytest.raises(UserError, match=r"random seeds of their own, found \[0, 1\] and \[1, 2\]"):
        joined.join([part, _table((1, 2))])
    other = _table((2, 3))
    for changes in ({"title": "x"}, {"notes": ("Another preset.",)}, {"rows": other.rows[:2]}, {"claims": ()}):
        with pytest.raises(UserError, match=f"parts of equal {next(iter(changes))}"):
            joined.join([part, dataclasses.replace(other, **changes)])


def test_tables_of_other_settings_are_refused(tmp_path, capsys):
    """Equal notes say nothing of a learning rate, nor of the photographs."""
    settings = {"preset": {"classifier": {"precision": "float32"}, "maps": {"sizes": [321]}}, "strong": {"images": 60}}
    tables.write(dataclasses.replace(_table((0, 1)), settings=settings), tmp_path)
    part, other = joined.read(tmp_path / "table5.json"), _table((2, 3))
    assert joined.join([part, dataclasses.replace(other, settings=settings)]).settings == settings
    different = {**settings, "preset": {**settings["preset"], "classifier": {"precision": "bfloat16"}}}
    with pytest.raises(UserError, match="of equal settings, found preset.classifier.precision: float32 -> bfloat16"):
        joined.join([part, dataclasses.replace(other, settings=different)])
    assert joined.join([part, other]).settings == settings
    assert "1 of 2 parts do not say by which settings" in capsys.readouterr().err


def test_what_is_not_a_number_is_none_in_the_file(tmp_path):
    """As the mAP of a held-out split without tags."""
    nan = Measured((float("nan"), 0.5))
    tables.write(dataclasses.replace(_table((0, 1)), rows=({"system": "a", "mIoU": nan},), claims=(
        Claim("a above b", nan, Measured((0.1, 0.2))),)), tmp_path)
    content = json.loads((tmp_path / "table5.json").read_text(), parse_constant=pytest.fail)
    assert content["rows"][0]["mIoU"]["values"] == [None, 50.0] and content["claims"][0]["interval"] == [None, None]
    assert joined.read(tmp_path / "table5.json").rows[0]["mIoU"].values[1] == 0.5


def test_spreads_over_repeats_are_read_and_not_joined(tmp_path):
    """As Table 6: each value is of a repeat, and its claims are of deviations."""
    spreads = dataclasses.replace(_table((0, 1, 2, 3, 4)), random_seeds=(), claims=(Claim(
        "the deviation is greater for a", Measured(HIGH), Measured(LOW), True),))
    tables.write(spreads, tmp_path)
    kept, text = joined.read(tmp_path / "table5.json"), tables.markdown(spreads)
    assert tables.markdown(kept) == text and "Morgan's test of paired spreads over the repeats" in text
    assert kept.claims[0].difference == pytest.approx(spreads.claims[0].difference)
    with pytest.raises(UserError, match="table5: expected a table over random seeds, .* something else"):
        joined.join([kept])


@pytest.mark.parametrize("change, message", [
    ({"rows": [{"mIoU": {"mean": 1}}]}, "a table of tools.reproduce"),
    ({"claims": None}, "a table of tools.reproduce")])
def test_another_file_is_refused(tmp_path, change, message):
    path = _written(tmp_path, (0, 1))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        joined.read(path)


def test_the_command_joins_by_name(tmp_path):
    parts = [str(_written(tmp_path / str(k), seeds)) for k, seeds in enumerate(((0, 1), (2, 3, 4)))]
    command = [sys.executable, "-m", "tools.join_tables", f"--output_dir={tmp_path / 'joined'}"]
    ended = subprocess.run([*command, *parts], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "joined" / "tables" / "table5.md").read_text() == tables.markdown(_table(range(5)))
    none = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert none.returncode == 1 and "expected files of tables after the flags" in none.stderr


@pytest.mark.parametrize("name", ["reproduced", "reproduced_voc"])
def test_the_document_says_what_the_kept_tables_hold(name):
    """docs/<name>.md has the tables of docs/<name>/*.json as they are written today, verdicts too."""
    documents = pathlib.Path(__file__).resolve().parents[2] / "docs"
    text, kept = (documents / f"{name}.md").read_text(), sorted((documents / name).glob("*.json"))
    assert kept
    for path in kept:
        table = joined.read(path)
        heading, _, body = tables.markdown(table).partition("\n")
        assert f"#{heading}\n" in text and body.strip() in text, path
