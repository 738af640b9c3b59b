"""Makes the pages of the library's interface, one a module, of its docstrings: docs/api/index.html.

    python -m tools.make_api --to=docs/api

The packages are those of requirements-docs.txt (`make docs` installs them).
"""

import importlib
import pathlib
import pkgutil
import types
import warnings

from absl import flags

import ficklenet_tf
from ficklenet_tf.errors import UserError
from tools import cli


def _define_flags() -> None:
    flags.DEFINE_string("to", "docs/api", "The directory to write.")


def show_all(package: types.ModuleType) -> None:
    """Makes pdoc see a package's lazy names and all its modules, not only those that its `__all__` has."""
    names = getattr(package, "__all__", None)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        child = importlib.import_module(module.name)
        if module.ispkg:
            show_all(child)
    if names is not None:
        vars(package).update({name: getattr(package, name) for name in names})
        children = [module.name for module in pkgutil.iter_modules(package.__path__)]
        package.__all__ = [*names, *(name for name in children if name not in names)]  # type: ignore[attr-defined]


def main():
    """Writes the pages."""
    try:
        import pdoc
    except ImportError as error:
        raise UserError(f"expected the packages of requirements-docs.txt, found {error}; run make docs") from error
    show_all(ficklenet_tf)
    to = pathlib.Path(cli.FLAGS.to)
    warnings.filterwarnings("ignore", ".*utils.VersionOrStr")  # a type in TFDS' own classes that pdoc cannot find
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(ficklenet_tf.__name__, output_directory=to)
    cli.done("interface", to / "index.html")


if __name__ == "__main__":
    _define_flags()
    cli.start(main)
