"""The project's own sources as syntax trees, for tests of how it is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

#: The top folder of the checkout.
TOP = Path(__file__).resolve().parents[2]


def trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    """Each Python file under a folder of the checkout: its path from the top, its syntax tree."""
    for path in sorted((TOP / folder).rglob("*.py")):
        yield str(path.relative_to(TOP)), ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is a name or an attribute of one, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (origin := dotted(node.value)):
        return f"{origin}.{node.attr}"
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call of something that has a name: the name as it is written there, the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            yield name, node


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Everything that a module imports, wherever in it, for types alone too: dotted name, line.

    `from a import b` counts as `a.b`, since `b` may be a module. Relative imports show
    with their leading dots.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                yield f"{origin}.{alias.name}", node.lineno
