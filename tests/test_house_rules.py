"""Rules that no type checker knows: where Numba may be imported, what is documented, what is exported, who imports whom."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pimloom
from pimloom.program import FIELDS, INSTRUCTIONS, MACHINES, OPCODES
from pimloom.targets import TARGETS

ROOT = Path(pimloom.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PROJECT = ROOT.parent.parent
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|manager|old)(_|$)")


def imports(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_only_kernels_import_numba() -> None:
    users = {path.relative_to(ROOT).parts[0] for path in MODULES if "numba" in imports(path)}
    assert users == {"kernels"}


def test_kernels_import_nothing_of_ours() -> None:
    for path in sorted((ROOT / "kernels").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pimloom"):
                assert node.module.startswith("pimloom.kernels"), path


def test_no_module_is_named_after_nothing() -> None:
    names = [path.stem for path in MODULES] + [path.parent.name for path in MODULES]
    assert [name for name in names if FORBIDDEN_NAMES.search(name)] == []


def kernels() -> list[tuple[str, ast.FunctionDef]]:
    """Public functions decorated with `jit`, by file."""
    found: list[tuple[str, ast.FunctionDef]] = []
    for path in sorted((ROOT / "kernels").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and path.stem != "_jit":
                assert [ast.unparse(d) for d in node.decorator_list] == ["jit"], f"{path.name}: {node.name}"
                found.append((path.stem, node))
    return found


@pytest.mark.parametrize(("module", "function"), [pytest.param(m, f, id=f"{m}.{f.name}") for m, f in kernels()])
def test_kernel_parameters_are_documented_with_dtype_and_shape(module: str, function: ast.FunctionDef) -> None:
    text = ast.get_docstring(function) or ""
    assert "Returns:" in text
    for argument in function.args.args:
        described = re.search(rf"^\s+{argument.arg}: (?P<what>.+)$", text, re.MULTILINE)
        assert described, f"{module}.{function.name}: '{argument.arg}' is not documented"
        is_array = re.match(r"(u?int|float)\d+\[[^\]]+\]", described["what"])
        assert is_array or described["what"].startswith(("int.", "float.")), f"{module}: {argument.arg}: {described['what']}"


def packages() -> list[str]:
    return ["pimloom", *(m.name for m in pkgutil.walk_packages(pimloom.__path__, "pimloom.") if m.ispkg)]


@pytest.mark.parametrize("name", packages())
def test_exports_exist_and_are_sorted_out(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", ())
    assert len(set(exported)) == len(exported)
    assert [e for e in exported if not hasattr(module, e)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_documented(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), path


@pytest.mark.parametrize("row", INSTRUCTIONS, ids=lambda row: row.name)
def test_instruction_rows_are_complete(row: object) -> None:
    assert OPCODES[row.name] == INSTRUCTIONS.index(row)  # pyright: ignore
    assert row.meaning and row.unit and row.operands and any(row.name in machine.costs for machine in MACHINES.values())  # pyright: ignore
    assert set(row.operands) <= set(FIELDS) - {"opcode", "stage", "processor", "node"}  # pyright: ignore
    assert all(row.operands.values())  # pyright: ignore


def test_targets_are_named_after_the_hardware_they_serve() -> None:
    assert all(name == target.name and target.summary for name, target in TARGETS.items())


def test_layers_import_downwards() -> None:
    """The contracts of import-linter in pyproject.toml, where it is installed."""
    linter = shutil.which("lint-imports") or shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if linter is None or not (PROJECT / "pyproject.toml").exists():
        pytest.skip("import-linter is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([linter, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
