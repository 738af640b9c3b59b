"""The sections of tools.benchmark, their results kept and their goals in one table."""

import dataclasses
import importlib
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from ficklenet_tf.runs import artifacts
from tools import words
from tools.benchmarks import measure, tables

# Of benchmark.json: section -> {"machine", "scale", "rounds", "seconds", "tables"}.
Results = dict[str, dict[str, Any]]


def run(sections: Sequence[str], options: measure.Options, update: str | pathlib.Path | None = None,
        beside: str | pathlib.Path | None = None) -> Results:
    """Runs sections and keeps their results, section by section.

    Args:
      sections: names from `words.SECTIONS`.
      options: `measure.Options`.
      update: a document for the tables, or None; see `tables.update`.
      beside: benchmark.json of a run in the other state of oneDNN, for the table of goals, or None.

    Returns:
      The content of benchmark.json, `Results`.
    """
    path = options.output_dir / "benchmark.json"
    results = artifacts.read_json(path) if path.exists() else {}
    beside_results = artifacts.read_json(beside) if beside else None
    if update:
        for section in (*sections, "goals"):
            tables.marked(pathlib.Path(update).read_text(), section)  # better now than after the measurements
    for section in sections:
        facts, start = measure.machine(), time.perf_counter()
        section_tables = importlib.import_module(f"tools.benchmarks.{section}").run(options)
        results[section] = {"machine": facts, "scale": options.scale, "rounds": options.rounds,
                            "seconds": time.perf_counter() - start,
                            "tables": [tables.as_json(table) for table in section_tables]}
        print(markdown(results[section], section_tables), flush=True)
        for number, table in enumerate(section_tables):
            if table.plot:
                tables.draw(table, options.output_dir / "plots" / f"{section}_{number}.png")
        results = {name: results[name] for name in words.SECTIONS if name in results}
        artifacts.write_json(path, results)
    goal_table = goals(results, beside_results, options.scale)
    texts = {"goals": tables.grid(goal_table.columns, goal_table.rows),
             **{name: markdown(result, [_table(table) for table in result["tables"]])
                for name, result in results.items()}}
    print(f"\n{goal_table.markdown()}")
    page = "\n\n".join(f"## {name}\n\n{text}" for name, text in texts.items())
    artifacts.write_bytes(options.output_dir / "tables.md", f"{page}\n".encode())
    if update:
        tables.update(update, {name: texts[name] for name in (*sections, "goals")})
    return results


def goals(results: Results, beside: Results | None, scale: str) -> tables.Table:
    """Returns the table of the goals of all sections measured at `scale`.

    Args:
      results: what `run` returns.
      beside: the same of a run in the other state of oneDNN, for two more columns, or None.
      scale: see `measure.Options`.
    """
    goal_table = tables.goals_table(_goals_of(results, scale))
    if not beside:
        return goal_table
    measured = {(row[0], row[1]): row[3:] for row in tables.goals_table(_goals_of(beside, scale)).rows}
    states = ["oneDNN on" if next(iter(run_results.values()))["machine"]["onednn"] else "oneDNN off"
              for run_results in (results, beside)]
    return dataclasses.replace(goal_table, columns=(*goal_table.columns[:3], states[0], "", states[1], " "),
                               rows=[[*row, *measured.get((row[0], row[1]), [None, None])]
                                     for row in goal_table.rows])


def _goals_of(results: Results, scale: str) -> list[dict[str, Any]]:
    return [goal for result in results.values() if result["scale"] == scale
            for table in result["tables"] for goal in table["goals"]]


def _table(stored: dict[str, Any]) -> tables.Table:
    """Makes a table from its JSON, without goals and plot, which only `run` needs."""
    return tables.Table(stored["title"], tuple(stored["columns"]), stored["rows"], stored["note"])


def markdown(result: dict[str, Any], section_tables: Sequence[tables.Table]) -> str:
    """Returns a section's tables with a line on machine and date."""
    facts = result["machine"]
    line = (f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB, "
            f"oneDNN {'on' if facts.get('onednn') else 'off'}, load {facts['load'][0]} at the start, TensorFlow "
            f"{facts['versions'].get('tensorflow', facts['versions'].get('tensorflow-cpu'))}; "
            f"{result['rounds']} rounds, {result['seconds']:.0f} s"
            + ("" if result["scale"] == "full" else f"; scale {result['scale']}: its figures mean nothing"))
    return "\n\n".join([line, *(table.markdown() for table in section_tables)])
