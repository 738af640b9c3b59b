"""The house: who may import whom, that nothing goes in a circle, and what only one place may know."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the ground up; a room sees those below it, never those above it or beside it.
FLOORS = (
    {"errors"},
    {"setting", "random_seeds"},
    {"configs"},
    {"presets"},
    {"distribution"},
    {"runs"},
    {"crf", "data"},
    {"models"},
    {"evaluation", "maps"},
    {"seeds"},
    {"loaded_run", "serving", "training"},
    {"report"},
    {"experiments"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted((ROOT / "ficklenet_tf").rglob("*.py"))


def _imports(path):
    """Yields the dotted names of the modules that a file imports; of `from a import b` "a.b", which may be a name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(path):
    return path.relative_to(ROOT / "ficklenet_tf").parts[0].removesuffix(".py")


def _module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in FILES if _room(p) != "__init__"], ids=_relative)
def test_a_room_imports_from_below(path):
    room = _room(path)
    assert room in FLOOR, f"{room} has no floor: give it one in FLOORS"
    for name in _imports(path):
        if name.startswith("ficklenet_tf."):
            other = name.split(".")[1]
            assert other == room or FLOOR[other] < FLOOR[room], f"{_module(path)} imports {name}: not below it"


def test_no_module_imports_itself_by_way_of_others():
    modules = {_module(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in _imports(path)}
        graph[module] = {name for name in names if name in modules and name != "ficklenet_tf"}
    done = set()

    def visit(module, trail):
        assert module not in trail, f"a circle: {' -> '.join([*trail[trail.index(module):], module])}"
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_the_library_knows_no_flags_and_no_tools(path):
    for name in _imports(path):
        assert name.split(".")[0] not in ("absl", "tools", "export"), f"{path} imports {name}"


def test_only_one_module_imports_pydensecrf():
    users = [path for path in FILES if any(name.split(".")[0] == "pydensecrf" for name in _imports(path))]
    assert users == [ROOT / "ficklenet_tf" / "crf" / "pydensecrf.py"]


def test_graphs_are_traced_as_they_stand():
    """AutoGraph, which rewrites functions before they are traced, takes a fifth of a short job's time for nothing."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "tf.function":
                assert "autograph=False" in ast.unparse(node), f"{path}:{node.lineno}"
            for decorator in getattr(node, "decorator_list", []):
                assert ast.unparse(decorator) != "tf.function", f"{path}:{node.lineno}"
