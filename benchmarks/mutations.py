"""Small changes of a module's syntax tree, one at a time, for :mod:`benchmarks.mutants`.

Comparisons, arithmetic, conditions, numbers, defaults, calls that reduce (``min``, ``mean``, ...), calls without
arguments (``.detach()``), statements. Texts, annotations and what only makes a message are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
}
CALLS = {
    "min": "max",
    "minimum": "maximum",
    "amin": "amax",
    "argmin": "argmax",
    "all": "any",
    "floor": "ceil",
    "sum": "mean",
    "mean": "median",
    "sin": "cos",
    "log_softmax": "softmax",
    "clamp_min": "clamp_max",
    "logical_and": "logical_or",
}
CALLS |= {new: old for old, new in CALLS.items() if new not in ("mean", "median", "softmax")} | {"median": "mean"}
SILENT = {"print", "warn", "close", "cpu", "contiguous", "item", "numpy", "tolist", "copy", "strip"}
"""Calls whose loss makes no difference, or only another error at once."""


@dataclass(frozen=True, order=True)
class Mutation:
    """One change of the line ``line``: the node's number in :func:`ast.walk`'s order, and what is done there."""

    line: int
    node: int
    before: str
    after: str
    in_function: bool
    """Whether it lies in the body of a function, and not in a default or in a constant of the module."""
    statement: tuple[int, int]
    """First and last line of the statement it lies in, of its head where it has a body: a test that executes none of
    them cannot notice the change."""

    def tree(self, source: str) -> ast.Module:
        """The changed module."""
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        node = nodes[self.node]
        if self.after == "pass":
            changed: ast.AST = ast.Pass()
        else:
            wanted = [new for new in _changes(node) if ast.unparse(new) == self.after]
            changed = wanted[0]
        _replace(nodes, node, ast.copy_location(changed, node))
        return ast.fix_missing_locations(tree)

    def __str__(self) -> str:
        return f"{self.line}: {_short(self.before)}  ->  {_short(self.after)}"


def mutations(source: str) -> list[Mutation]:
    """All changes of a module, in the order of its lines."""
    tree = ast.parse(source)
    left_alone = _left_alone(tree)
    bodies = _bodies(tree)
    statements = _statements(tree)
    found = []
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in left_alone:
            continue
        for new in _changes(node):
            line = getattr(node, "lineno", 0)
            lines = statements.get(id(node), (line, line))
            found.append(Mutation(line, number, ast.unparse(node), ast.unparse(new), id(node) in bodies, lines))
    return sorted(found)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and len(node.ops) >= 1 and type(node.ops[0]) in COMPARISONS:
        for i, operator in enumerate(node.ops):
            changed = [COMPARISONS[type(operator)]() if j == i else other for j, other in enumerate(node.ops)]
            yield ast.Compare(node.left, changed, node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) not in SILENT:
        yield ast.Pass()


def _other_constants(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 2 if value else 1.0)


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    function, name = node.func, _name(node)
    if name in CALLS:
        if isinstance(function, ast.Attribute):
            yield ast.Call(ast.Attribute(function.value, CALLS[name], ast.Load()), node.args, node.keywords)
        elif name in ("min", "max", "all", "any"):
            yield ast.Call(ast.Name(CALLS[name], ast.Load()), node.args, node.keywords)
    elif isinstance(function, ast.Attribute) and not node.args and not node.keywords and name not in SILENT:
        yield function.value


def _name(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _left_alone(tree: ast.Module) -> set[int]:
    """Numbers of nodes in annotations, texts, messages, assertions, and sizes of decorators' arguments."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            roots.append(node.annotation)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            roots += node.decorator_list
            if isinstance(node, ast.FunctionDef) and node.returns:
                roots.append(node.returns)
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            roots.append(node)
        if isinstance(node, ast.Subscript):  # range[int], dict[str, int] in aliases
            roots += [node.slice] if isinstance(node.value, ast.Name) and node.value.id in ("dict", "list") else []
    return {id(inner) for root in roots for inner in ast.walk(root)}


def _bodies(tree: ast.Module) -> set[int]:
    """Numbers of the nodes in bodies of functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {id(inner) for function in functions for part in function.body for inner in ast.walk(part)}


def _statements(tree: ast.Module) -> dict[int, tuple[int, int]]:
    """First and last line of the innermost statement around each node."""
    found: dict[int, tuple[int, int]] = {}
    for statement in ast.walk(tree):  # outer ones come first
        if isinstance(statement, ast.stmt):
            body = getattr(statement, "body", None)
            end = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno or statement.lineno
            found |= {id(inner): (statement.lineno, end) for inner in ast.walk(statement)}
    return found


def _replace(nodes: list[ast.AST], old: ast.AST, new: ast.AST) -> None:
    for parent in nodes:
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list):
                for i, item in enumerate(value):
                    if item is old:
                        value[i] = new
                        return


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 70 else f"{text[:67]}..."
