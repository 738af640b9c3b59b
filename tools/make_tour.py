"""Makes docs/tour.ipynb of docs/tour.py: executes its cells on a finished run and keeps what they show.

    python -m tools.make_tour --output_dir=runs/demo

The run is that of `make demo`, the packages are those of requirements-docs.txt (`make docs` installs them). The
notebook is written whole or not at all and holds neither times nor paths, so that it changes only where the tour does.
What cells say on standard error is shown here and not kept.
"""

import hashlib
import os
import pathlib
import sys

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli, define

SOURCE = pathlib.Path(__file__).parents[1] / "docs" / "tour.py"
_MARK = "# %%"

def _define_flags() -> None:
    define.run_dir("runs/demo")
    flags.DEFINE_string("to", "docs/tour.ipynb", "The notebook to write.")


def cells(text: str) -> list[tuple[str, str]]:
    """Splits a Python file in percent format into its cells.

    Args:
      text: the file's; what is above the first cell is left out.

    Returns:
      list of ("code" or "markdown", source).
    """
    found = []
    for block in f"\n{text}".split(f"\n{_MARK}")[1:]:
        head, _, body = block.partition("\n")
        lines = body.strip("\n").split("\n")
        if head.strip() == "[markdown]":
            found.append(("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)))
        else:
            found.append(("code", "\n".join(lines)))
    return found


def notebook(text: str):
    """Returns the notebook of a Python file in percent format, not executed; a cell's id is a digest of its source."""
    import nbformat

    made = nbformat.v4.new_notebook(metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    made.cells = [new[kind](source, id=hashlib.sha256(source.encode()).hexdigest()[:12])
                  for kind, source in cells(text)]
    return made


def execute(made, run_dir: str) -> None:
    """Runs a notebook's cells on a finished run and keeps their outputs in it, without those on standard error.

    Raises:
      UserError: the run is not there, or not with all that the tour needs.
      nbclient.exceptions.CellExecutionError: a cell raises something else.
    """
    import nbclient
    from traitlets.config import Config

    client = nbclient.NotebookClient(made, kernel_name="python3", record_timing=False, timeout=600,
                                     resources={"metadata": {"path": str(SOURCE.parents[1])}},
                                     config=Config(KernelManager={"transport": "ipc"}))  # no port is opened
    try:
        client.execute(env={**os.environ, "FICKLENET_RUN": run_dir})
    except nbclient.exceptions.CellExecutionError as error:
        if error.ename in ("FileNotFoundError", "UserError"):  # not a bug: no run, or not what the tour needs
            raise UserError(error.evalue) from error
        raise
    made.metadata["language_info"] = {"name": "python"}  # of this machine's Python nothing more
    for cell in made.cells:
        if cell.cell_type == "code":
            said = [output for output in cell.outputs if output.get("name") == "stderr"]
            sys.stderr.writelines(output.text for output in said)
            cell.outputs = [output for output in cell.outputs if output not in said]


def main() -> None:
    """Writes the notebook."""
    from ficklenet_tf.runs import artifacts

    try:
        import nbformat
    except ImportError as error:
        raise UserError(f"expected the packages of requirements-docs.txt, found {error}; run make docs") from error
    made = notebook(SOURCE.read_text())
    execute(made, str(cli.run_dir().resolve()))
    nbformat.validate(made)
    artifacts.write_bytes(cli.FLAGS.to, (nbformat.writes(made) + "\n").encode())
    cli.done("tour", cli.FLAGS.to)


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
