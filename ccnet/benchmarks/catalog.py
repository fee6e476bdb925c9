"""Which benchmarks there are: the modules beside this one that define `rows(quick)`."""

import ast
import difflib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ccnet.errors import UserError

if TYPE_CHECKING:
    from ccnet.benchmarks.measure import Row

FOLDER = Path(__file__).parent


def available(folder: Path = FOLDER) -> dict[str, str]:
    """Names of the benchmarks and the first lines of their docstrings; read from the source, so nothing is imported."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == "rows":
                found[path.stem] = (ast.get_docstring(node) or "").partition("\n")[0]
    return found


def load(name: str) -> Callable[[bool], Iterator["Row"]]:
    """The function `rows(quick)` of a benchmark.

    Raises:
        UserError: there is no benchmark of this name.
    """
    names = list(available())
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
        raise UserError(f"no benchmark {name}; {hint}")
    rows: Callable[[bool], Iterator[Row]] = importlib.import_module(f"ccnet.benchmarks.{name}").rows
    return rows
