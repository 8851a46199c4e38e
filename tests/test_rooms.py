"""The rooms of the package (nsr_cli/README.md): imports go downward, and what stands in them stays short."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsr_cli.folders import PACKAGE

ROOMS = ["cli", "commands", "launch", "report", "runs", "tasks", "bench", "engine", "models", "classical", "layers",
         "data", "ops", "base"]  # fmt: skip
BASE = {"errors", "files", "folders", "names", "regular", "stopwatch", "words", "__init__"}
FILES = {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
FILES = {path: tree for path, tree in FILES.items() if path.parts[0] not in ("plugins", "__main__.py")}


def room_of(path: Path) -> str:
    stem = path.parts[0].removesuffix(".py")
    return "base" if stem in BASE else stem


def imports(node: ast.AST) -> Iterator[str]:
    """The dotted names that are imported in a piece of code, however deep."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0, "imports are absolute"
            yield from (f"{part.module}.{alias.name}" for alias in part.names)


def at_module_level(tree: ast.Module) -> Iterator[str]:
    """What is imported when a module is: not inside of functions, nor for type checkers alone."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(node)
        waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_downward(room):
    above = ROOMS[: ROOMS.index(room)]
    wrong = []
    for path, tree in FILES.items():
        for name in imports(tree) if room_of(path) == room else ():
            package, _, rest = name.partition(".")
            if package == "nsr_cli" and room_of(Path(rest.partition(".")[0])) in above:
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_configs_end_in_commands():
    wrong = [
        f"{path} imports {name}"
        for path, tree in FILES.items()
        for name in imports(tree)
        if name.partition(".")[0] in ("hydra", "omegaconf") and room_of(path) not in ("cli", "commands")
    ]
    assert not wrong


def module_of(name: str) -> Path | None:
    """The file of a dotted name, of which the last part may be what is taken from a module."""
    parts = name.split(".")[1:]
    for length in (len(parts), len(parts) - 1):
        for candidate in (
            Path(*parts[:length]).with_suffix(".py") if length else None,
            Path(*parts[:length], "__init__.py"),
        ):
            if candidate in FILES:
                return candidate
    return None


def loaded(path: Path, seen: set[Path]) -> set[str]:
    """All outside packages that are imported with a module, at any depth."""
    seen.add(path)
    found = set()
    for name in at_module_level(FILES[path]):
        inside = module_of(name) if name.startswith("nsr_cli.") else None
        if inside is None:
            found.add(name.partition(".")[0])
        elif inside not in seen:
            found |= loaded(inside, seen)
    return found


def test_tables_and_the_command_line_start_without_torch():
    """Nor OpenCV, pandas or scikit-image; pictures of restored images and the stopwatch are imported when asked for."""
    rooms = [path for path in FILES if room_of(path) in ("cli", "report", "commands", "launch")]
    heavy = {str(path): loaded(path, set()) & {"torch", "cv2", "pandas", "skimage"} for path in rooms}
    assert {path for path, found in heavy.items() if found} == {"report/restored.py", "commands/bench.py"}


def test_no_file_is_long():
    lines = {str(p): len((PACKAGE / p).read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {path: count for path, count in lines.items() if count > 300 and path != "data/datasets.py"} == {}


LOOP = ("engine/trainer.py", "train")  # one flat function, read from top to bottom


def test_no_function_is_long():
    lengths = {
        (str(p), name): node.end_lineno - node.lineno + 1 for p, tree in FILES.items() for name, node in functions(tree)
    }
    assert {where: length for where, length in lengths.items() if length > 60 and where != LOOP} == {}


def test_no_function_has_many_parameters():
    """But the loop, whose signature documents it, and the layers, whose options are the paper's ablations."""
    counts = {}
    for path, tree in FILES.items():
        for name, node in functions(tree):
            own = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            counts[str(path), name] = len([arg for arg in own if arg not in ("self", "cls")])
    many = {where: count for where, count in counts.items() if count > 8 and where != LOOP}
    constructors = {where for where in many if where[0].startswith("layers/") and where[1] == "__init__"}
    assert {where: count for where, count in many.items() if where not in constructors} == {}
