"""Imports go one way: between packages, between their folders, and between modules."""

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
"""The folders of each package; a folder imports from itself and from those before it."""
PARSING = {"primitives.parsing", "primitives.zoo"}
"""At the top of `primitives` for readers; they check kinds, so they come after `graph`."""
FRONTS = {"primitives", "proxies", "evosearch", "evosearch.__main__", "proxies.loading"}
"""These import from any folder of their package: they pass on what its users need."""


def modules() -> dict[str, Path]:
    """Every module of the three packages by its name."""
    found = {}
    for package in FOLDERS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules that a source file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def folder(module: str) -> str:
    """The folder of its package that a module is in; "" for the package itself."""
    parts = module.split(".")
    own = len(parts) > 2 or MODULES[module].name == "__init__.py"
    return parts[1] if own and len(parts) > 1 and parts[1] in FOLDERS[parts[0]] else ""


def rank(module: str) -> float:
    """Where a module's folder stands among those of its package."""
    order = FOLDERS[module.split(".")[0]]
    if module in PARSING:
        return order.index("graph") + 0.5
    return order.index(folder(module))


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_packages_import_one_way(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        forbidden = MAY_NOT_IMPORT[package] & {name.split(".")[0] for name in imports(path)}
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize("package", FOLDERS)
def test_every_folder_has_its_place_in_the_order(package):
    with_code = {path.parent.name for path in (ROOT / package).glob("*/*.py")}
    assert with_code - {"zoo", "ops", "presets"} == set(FOLDERS[package]) - {""}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FRONTS))
def test_a_module_imports_only_from_folders_before_its_own(module):
    for imported in imports(MODULES[module]):
        if imported in MODULES and imported.split(".")[0] == module.split(".")[0]:
            if imported in FRONTS:  # passes on; what it passes on is checked where it is defined
                continue
            assert rank(imported) <= rank(module), f"{module} imports {imported}"


def test_no_modules_import_each_other_in_a_circle():
    graph = nx.DiGraph(
        (module, imported)
        for module in MODULES.keys() - FRONTS
        for imported in imports(MODULES[module])
        if imported in MODULES.keys() - FRONTS and imported != module
    )
    assert [circle for circle in nx.strongly_connected_components(graph) if len(circle) > 1] == []


def test_the_top_of_primitives_is_short():
    entries = {path.name for path in (ROOT / "primitives").iterdir()}
    entries -= {"__init__.py", "__pycache__", "py.typed", "zoo"}
    assert len(entries) <= 12


def test_the_walk_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "late.py"
    source.write_text("def f():\n    import evosearch.cli\n    from proxies.data import x\n")
    assert set(imports(source)) == {"evosearch.cli", "proxies.data"}
