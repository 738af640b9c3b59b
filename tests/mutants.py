"""Breaks the core at one place at a time, at random, and counts how often the tests notice.

    make mutants                        # an hour; again: goes on where it stopped
    .venv_mutants/bin/python tests/mutants.py --python=.venv/bin/python --minutes=60

cosmic-ray (requirements-mutants.txt, in an environment of its own) makes the mutants. They are shuffled, so that any
number of them is a fair sample of the core. Each runs in a copy of the tree: first the tests of its file, then, if it
lives, those of its room and what else uses it. Writes tests/mutants.jsonl, one line per mutant, which is committed:
what was judged of a file counts until that file changes, even if its tests do. Where no test can tell a mutant from
the code, write "equivalent" in place of "lives", and "why" beside it; where a new test can, delete the line: it is
judged again.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import use_mutation

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORE = ("models/*.py", "maps/*.py", "seeds/*.py", "crf/*.py", "training/losses.py", "evaluation/metrics.py")
# The tests of a file that has none of its own name, the nearest first.
NEAREST = {
    "models/affinity.py": ["tests/seeds/test_affinity.py", "tests/training/test_affinity_training.py"],
    "models/classifier.py": ["tests/models/test_stochastic.py", "tests/training/test_classifier.py"],
    "models/embedding.py": ["tests/seeds/test_affinity.py", "tests/training/test_affinity_training.py"],
    "models/neighbours.py": ["tests/models/test_boundary.py", "tests/seeds/test_affinity.py"],
    "models/resnet.py": ["tests/models/test_backbones.py"],
    "maps/erased.py": ["tests/training/test_erasing.py"],
    "maps/grad_cam.py": ["tests/maps/test_aggregation.py"],
    "maps/localizer.py": ["tests/maps/test_map_extraction.py", "tests/training/test_erasing.py"],
    "maps": ["tests/maps/test_map_extraction.py"],
    "seeds/extraction.py": ["tests/seeds/test_seed_extraction.py", "tests/maps/test_merging.py"],
    "seeds/salient.py": ["tests/seeds/test_saliency.py"],
    "seeds": ["tests/seeds/test_seed_extraction.py"],
    "crf/lattice.py": ["tests/crf/test_crf_parity.py", "tests/crf/test_crf.py"],
    "crf/permutohedral.py": ["tests/crf/test_crf_parity.py", "tests/crf/test_crf.py"],
    "crf/pydensecrf.py": ["tests/crf/test_crf_parity.py"],
    "crf": ["tests/crf/test_crf.py"]}
# What tests a room beside tests/<room>/.
BESIDE = {"models": ["tests/training/test_objective.py", "tests/training/test_classifier.py", "tests/test_compiled.py",
                     "tests/maps", "tests/serving/test_saved_model.py"],
          "maps": ["tests/seeds", "tests/experiments", "tests/test_compiled.py", "tests/serving/test_saved_model.py"],
          "seeds": ["tests/experiments", "tests/test_pipeline.py", "tests/training/test_objective.py"],
          "crf": ["tests/seeds", "tests/training/test_losses.py", "tests/serving/test_saved_model.py"],
          "training": [], "evaluation": ["tests/experiments"]}
LONGEST = 600  # seconds that the tests of one mutant may take; more counts as noticed
# Too easy: types in annotations, operators that floats do not have, what is never raised, dataclasses without the word
_EASY = ("BitOr", "BitAnd", "BitXor", "Shift", "Invert", "USub_Not", "UAdd_Not", "ExceptionReplacer",
         "RemoveDecorator")


def mutants(seed: int) -> list[dict[str, Any]]:
    """Returns one mutant for each place that can be broken, all in random order: file, operator, occurrence, line.

    A file's mutants and the numbers they are sorted by depend on the file alone: a change elsewhere keeps the order.
    """
    drawn = []
    for path in sorted(path for pattern in CORE for path in (ROOT / "ficklenet_tf").glob(pattern)):
        by_place: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
        tree, source = get_ast_from_path(path), hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for name in cosmic_ray.plugins.operator_names():
            operator_class = cosmic_ray.plugins.get_operator(name)
            if operator_class.arguments() or any(word in name for word in _EASY):
                continue
            operator = operator_class()
            places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
            for occurrence, (start, end) in enumerate(places):
                by_place.setdefault((start, end), []).append(
                    {"file": str(path.relative_to(ROOT)), "operator": name, "occurrence": occurrence,
                     "line": start[0], "source": source})
        chance = random.Random(f"{seed} {path.relative_to(ROOT)} {source}")
        drawn += [(chance.random(), chance.choice(choices)) for choices in by_place.values()]
    return [mutant for _, mutant in sorted(drawn, key=lambda each: each[0])]


def tests_of(file: str) -> Iterator[list[str]]:
    """Yields the tests to run for a file, the nearest first."""
    path = pathlib.Path(file)
    own, room = f"tests/{path.parts[1]}/test_{path.stem}.py", path.parts[1]
    nearest = [own] if (ROOT / own).exists() else NEAREST.get(f"{room}/{path.name}") or NEAREST[room]
    yield nearest
    yield [f"tests/{room}", *(f"--ignore={tests}" for tests in nearest)]
    if BESIDE[room]:
        yield BESIDE[room]


class Runner:
    """Runs tests in a tree, see mutants_runner.py.

    Args:
      python: of the environment that has what the tests need.
      tree: a copy of this one.
    """

    def __init__(self, python: str, tree: pathlib.Path) -> None:
        self._tree = tree
        self._process = subprocess.Popen([python, str(pathlib.Path(__file__).with_name("mutants_runner.py"))],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # none of another mutant

    def __call__(self, tests: list[str]) -> str:
        """Returns "passed", "failed", or "slow" after `LONGEST` seconds."""
        assert self._process.stdin and self._process.stdout
        arguments = ["-q", "-x", "-p", "no:cacheprovider", *tests]
        asked = {"tree": str(self._tree), "arguments": arguments, "seconds": LONGEST}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        known = {"0": "passed", "1": "failed", "2": "failed", "slow": "slow"}  # 2: a file could not be imported
        if answer not in known:
            raise SystemExit(f"{' '.join(tests)}: ended with {answer}, which says nothing of the mutant")
        return known[answer]


def judge(mutant: dict[str, Any], tree: pathlib.Path, run: Runner) -> tuple[dict[str, Any], list[str]]:
    """Returns the mutant with its fate, "killed", "slow" or "lives", its diff and seconds, and what noticed it."""
    start, fate, noticed = time.monotonic(), "lives", list[str]()
    operator = cosmic_ray.plugins.get_operator(mutant["operator"])()
    with use_mutation(tree / mutant["file"], operator, mutant["occurrence"]) as (before, after):
        changed = [f"{old.strip()}  ->  {new.strip()}"
                   for old, new in zip(before.splitlines(), after.splitlines(), strict=False) if old != new]
        for tests in tests_of(mutant["file"]):
            answer = run(tests)
            if answer != "passed":
                fate, noticed = "killed" if answer == "failed" else answer, tests
                break
    seconds = round(time.monotonic() - start)
    return {**mutant, "fate": fate, "change": changed[0] if changed else "", "seconds": seconds}, noticed


def check_sound(tests: list[str], run: Runner, sound: set[str]) -> None:
    """Sees once that tests which noticed a mutant pass on the sound tree: else they would notice every one."""
    if " ".join(tests) not in sound:
        if run(tests) != "passed":
            raise SystemExit(f"{' '.join(tests)}: fails without a mutant too, see tests.log in runs/mutants")
        sound.add(" ".join(tests))


def main() -> None:
    """Judges mutants until the time is over; prints the rate and those that live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=".venv/bin/python", help="that has what the tests need")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "tests" / "mutants.jsonl")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    options = parser.parse_args()
    tree = ROOT / "runs" / "mutants"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    shutil.rmtree(tree, ignore_errors=True)
    for file in listed.stdout.splitlines():
        if (ROOT / file).is_file():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, tree / file)
    order, keys = mutants(options.seed), ("file", "operator", "occurrence", "source")
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    judged = [json.loads(line) for line in lines]
    done = {tuple(each[key] for key in keys): each for each in judged}
    run, sound = Runner(str(pathlib.Path(options.python).absolute()), tree), set[str]()
    deadline = time.monotonic() + 60 * options.minutes
    for mutant in order:
        if time.monotonic() > deadline:
            break
        key = tuple(mutant[key] for key in keys)
        if key not in done:
            fate, noticed = judge(mutant, tree, run)
            if noticed:
                check_sound(noticed, run, sound)
            done[key] = fate
            with options.results.open("a") as file_:
                file_.write(json.dumps(fate) + "\n")
            print(f"{fate['fate']:7}{fate['seconds']:5.0f} s  {fate['file']}:{fate['line']}  {fate['change'][:100]}",
                  flush=True)
    sources = {mutant["file"]: mutant["source"] for mutant in order}
    current = [each for each in done.values() if sources.get(each["file"]) == each["source"]]  # no file that changed
    options.results.write_text("".join(json.dumps(each) + "\n" for each in current))
    fates = collections.Counter(each["fate"] for each in current)
    others = len(current) - fates["equivalent"]
    print(f"\n{len(current)} of {len(order)} places tried, {fates['equivalent']} equivalent; of the others "
          f"{others - fates['lives']} noticed ({100 * (1 - fates['lives'] / max(others, 1)):.1f} %). Alive:")
    for each in current:
        if each["fate"] == "lives":
            print(f"  {each['file']}:{each['line']}  {each['change']}")


if __name__ == "__main__":
    main()
