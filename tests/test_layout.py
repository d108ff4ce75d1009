"""How the packages may depend on each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_NOT_IMPORT = {"primitives": {"proxies", "evosearch"}, "proxies": {"evosearch"}}


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


def test_the_walk_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "late.py"
    source.write_text("def f():\n    import evosearch.cli\n    from proxies.data import x\n")
    assert set(imported_packages(source)) == {"evosearch", "proxies"}
