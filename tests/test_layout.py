"""How the packages may depend on each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_NOT_IMPORT = {"primitives": {"proxies", "evosearch"}, "proxies": {"evosearch"}}


LAYERS = ("training", "evaluating", "searching", "simplification", "findings", "cli")
"""Packages of `evosearch`; each may import those before it."""


def imported_packages(path):
    """The top-level names that a source file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_imports_go_one_way(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    for path in sources:
        forbidden = MAY_NOT_IMPORT[package] & set(imported_packages(path))
        assert not forbidden, f"{path.relative_to(ROOT)} imports {forbidden}"


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_of_evosearch_import_only_those_below(layer):
    above = {f"evosearch.{other}" for other in LAYERS[LAYERS.index(layer) + 1 :]}
    sources = sorted((ROOT / "evosearch" / layer).rglob("*.py"))
    assert sources
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                home = ".".join(node.module.split(".")[:2])
                assert home not in above, f"{path.relative_to(ROOT)} imports {node.module}"


def test_the_walk_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "late.py"
    source.write_text("def f():\n    import evosearch.cli\n    from proxies.data import x\n")
    assert set(imported_packages(source)) == {"evosearch", "proxies"}
