"""Tests that imports between packages, folders and modules go in one direction."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN_IMPORTS = {"primitives": {"proxies", "evosearch"}, "proxies": {"evosearch"}}
FOLDERS = {
    "primitives": ("text", "", "graph", "machine", "algebra", "explain", "export"),
    "proxies": ("", "training", "tasks", "user_tasks"),
    "evosearch": (
        "",
        "measuring",
        "evolution",
        "runs",
        "evaluation",
        "simplification",
        "pipeline",
        "report",
        "benchmarking",
        "cli",
    ),
}
"""The folders of each package; a folder may import from itself and from earlier folders.

`""` stands for the modules at the top of the package.
"""
IMPORTS_FROM_GRAPH = {"primitives.parsing", "primitives.zoo"}
"""Top-level modules of `primitives` that import from `graph`, because they check kinds."""
REEXPORTING = {"primitives", "proxies", "evosearch", "evosearch.__main__", "proxies.loading"}
"""Modules that re-export names and may import from any folder of their package."""


def modules() -> dict[str, Path]:
    """Return the path of each module of the three packages, by name."""
    paths = {}
    for package in FOLDERS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts).removesuffix(".__init__")] = path
    return paths


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a source file imports, including imports inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def folder(module: str) -> str:
    """Return the folder of a module within its package; "" for the top of the package."""
    parts = module.split(".")
    in_folder = len(parts) > 2 or MODULES[module].name == "__init__.py"
    return parts[1] if in_folder and len(parts) > 1 and parts[1] in FOLDERS[parts[0]] else ""


def rank(module: str) -> float:
    """Return the position of a module's folder in the import order."""
    order = FOLDERS[module.split(".")[0]]
    if module in IMPORTS_FROM_GRAPH:
        return order.index("graph") + 0.5
    return order.index(folder(module))


@pytest.mark.parametrize("package", FORBIDDEN_IMPORTS)
def test_packages_import_in_one_direction(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        forbidden = FORBIDDEN_IMPORTS[package] & {name.split(".")[0] for name in imports(path)}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_folder_has_a_position_in_the_import_order(package):
    folders_with_code = {path.parent.name for path in (ROOT / package).glob("*/*.py")}
    data_folders = {"zoo", "ops", "presets"}
    assert folders_with_code - data_folders == set(FOLDERS[package]) - {""}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - REEXPORTING))
def test_a_module_imports_only_from_its_own_and_earlier_folders(module):
    for imported in imports(MODULES[module]):
        if imported in MODULES and imported.split(".")[0] == module.split(".")[0]:
            if imported in REEXPORTING:
                continue
            assert rank(imported) <= rank(module), f"{module} imports {imported}"


def test_there_are_no_circular_imports():
    checked_modules = MODULES.keys() - REEXPORTING
    graph = nx.DiGraph(
        (module, imported)
        for module in checked_modules
        for imported in imports(MODULES[module])
        if imported in checked_modules and imported != module
    )
    components = nx.strongly_connected_components(graph)
    cycles = [component for component in components if len(component) > 1]
    assert cycles == []


def test_only_the_kernel_for_nvidia_gpus_imports_pallas():
    """Batches without the kernel work with a JAX that lacks Pallas's Triton backend."""
    imports_pallas = re.compile(r"^ *(import|from) .*\bpallas\b", re.MULTILINE)
    with_pallas = {
        module for module, path in MODULES.items() if imports_pallas.search(path.read_text())
    }
    assert with_pallas
    kernel = "primitives.machine.batch.kernel"
    assert {module for module in with_pallas if not f"{module}.".startswith(f"{kernel}.")} == set()


def test_primitives_has_at_most_12_modules_and_folders_at_its_top():
    entries = {path.name for path in (ROOT / "primitives").iterdir()}
    entries -= {"__init__.py", "__pycache__", "py.typed", "zoo"}
    assert len(entries) <= 12


def test_imports_inside_functions_are_found(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("def f():\n    import evosearch.cli\n    from proxies.data import x\n")
    assert set(imports(source)) == {"evosearch.cli", "proxies.data"}
