"""The house rules that a program can hold: import directions, sizes, one caller of instantiate."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ccnet"
MODULES = sorted(PACKAGE.rglob("*.py"))
ABOVE = {"build", "build_training", "config", "config_errors", "schema", "part_checks", "session", "run",
         "loaded_model", "fine_tuning", "validation", "comparison", "model_table", "preparation", "inspection",
         "prediction", "importers", "command_line", "benchmarks"}  # fmt: skip
FORBIDDEN = {
    "data": {"models", "losses", "training", "evaluation", *ABOVE},
    "models": {"data", "losses", "training", "evaluation", *ABOVE},
    "losses": {"data", "models", "training", "evaluation", *ABOVE},
    "evaluation": {"data", "models", "losses", "training", *ABOVE},
    "training": {"data", "models", "losses", "evaluation", *ABOVE},
    "config": {
        "data",
        "models",
        "losses",
        "training",
        "evaluation",
        "build",
        "session",
        "run",
        "loaded_model",
        "benchmarks",
    },
    "schema": {"data", "models", "losses", "training", "evaluation", "config", "build", "session", "run", "benchmarks"},
    "build": {
        "build_training",
        "session",
        "run",
        "loaded_model",
        "fine_tuning",
        "preparation",
        "inspection",
        "prediction",
        "command_line",
        "benchmarks",
    },
}


def imported(path: Path) -> set[str]:
    """Names below `ccnet` that a module imports, as dotted paths without the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Import) and any(alias.name.startswith("ccnet") for alias in node.names)), path
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ccnet":
            stem = node.module.removeprefix("ccnet").lstrip(".")
            names = [alias.name for alias in node.names] if not stem else [stem]
            found |= set(names)
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_in_one_direction(room: str) -> None:
    """Oracle: the import rules of the design."""
    paths = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in (room, f"{room}.py")]
    assert paths
    for path in paths:
        rooms = {name.split(".")[0] for name in imported(path)}
        assert not rooms & FORBIDDEN[room], path


def test_there_are_no_import_cycles() -> None:
    """Oracle: modules can be removed one by one when they depend on nothing that is left."""
    name = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES}
    left = {name[path]: imported(path) & set(name.values()) for path in MODULES}
    while left:
        free = {module for module, needs in left.items() if not needs & left.keys()}
        assert free, f"cycle among {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


def test_only_build_instantiates() -> None:
    """Oracle: the text of every other module."""
    callers = [path.name for path in MODULES if "instantiate" in path.read_text()]
    assert callers == ["build.py"]


def test_only_distributed_knows_torch_distributed_and_only_weights_unpickles() -> None:
    """Oracle: the text of every other module."""
    assert [p.name for p in MODULES if "import distributed as dist" in p.read_text()] == ["distributed.py"]
    assert [p.name for p in MODULES if re.search(r"(?<!safetensors\.)torch\.load\(", p.read_text())] == ["weights.py"]


@pytest.mark.parametrize(
    "words",
    [r"^\s*(import|from) (pickle|marshal|shelve|dill)\b", r"(?<![\w.])(eval|exec)\(",
     r"yaml\.(load|unsafe_load|full_load)\(", r"shell=True", r"os\.(system|popen)\(",
     r"allow_pickle=True", r"weights_only=False"],
)  # fmt: skip
def test_nothing_runs_what_it_reads(words: str) -> None:
    """Oracle: the text of every module."""
    assert not [path.name for path in MODULES if re.search(words, path.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("path", [*MODULES, *(PACKAGE.parent / "tools").glob("*.py")], ids=lambda path: path.name)
def test_files_and_functions_stay_small(path: Path) -> None:
    """Oracle: the house rule, 300 lines a file (60 a tool), 60 a function."""
    text = path.read_text()
    assert text.count("\n") <= (60 if path.parent.name == "tools" else 300)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


def test_no_room_for_leftovers() -> None:
    """Oracle: the house rule on file names."""
    assert not {path.stem for path in MODULES} & {"utils", "misc", "helpers"}
