"""Imports between packages, folders and modules go in one direction."""

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parent.parent
MAY_NOT_IMPORT = {"primitives": {"proxies", "evosearch"}, "proxies": {"evosearch"}}
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
"""The folders of each package in import order: a folder imports from itself and earlier ones."""
PARSING = {"primitives.parsing", "primitives.zoo"}
"""Modules at the top of `primitives` that import from `graph`, since they check kinds."""
FRONTS = {"primitives", "proxies", "evosearch", "evosearch.__main__", "proxies.loading"}
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
    """Yield the modules that a source file imports, inside functions too."""
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
    if module in PARSING:
        return order.index("graph") + 0.5
    return order.index(folder(module))


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_packages_import_in_one_direction(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        forbidden = MAY_NOT_IMPORT[package] & {name.split(".")[0] for name in imports(path)}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_folder_has_a_position_in_the_import_order(package):
    with_code = {path.parent.name for path in (ROOT / package).glob("*/*.py")}
    assert with_code - {"zoo", "ops", "presets"} == set(FOLDERS[package]) - {""}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FRONTS))
def test_a_module_imports_only_from_its_own_and_earlier_folders(module):
    for imported in imports(MODULES[module]):
        if imported in MODULES and imported.split(".")[0] == module.split(".")[0]:
            if imported in FRONTS:  # a re-export; the module that defines the name is checked
                continue
            assert rank(imported) <= rank(module), f"{module} imports {imported}"


def test_there_are_no_circular_imports():
    graph = nx.DiGraph(
        (module, imported)
        for module in MODULES.keys() - FRONTS
        for imported in imports(MODULES[module])
        if imported in MODULES.keys() - FRONTS and imported != module
    )
    components = nx.strongly_connected_components(graph)
    assert [component for component in components if len(component) > 1] == []


def test_the_top_of_primitives_is_short():
    entries = {path.name for path in (ROOT / "primitives").iterdir()}
    entries -= {"__init__.py", "__pycache__", "py.typed", "zoo"}
    assert len(entries) <= 12


def test_imports_inside_functions_are_found(tmp_path):
    source = tmp_path / "late.py"
    source.write_text("def f():\n    import evosearch.cli\n    from proxies.data import x\n")
    assert set(imports(source)) == {"evosearch.cli", "proxies.data"}
