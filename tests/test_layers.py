"""The order of the packages: no module imports from one that stands after its own."""

from __future__ import annotations

import ast
from pathlib import Path

import posfeat_hloc

ORDER = (
    ("errors", "features", "confs"),
    ("runtime",),
    ("geometry",),
    ("images",),
    ("networks",),
    ("weights",),
    ("detection",),
    ("extractors",),
    ("matchers",),
    ("stores",),
    ("extract_features",),
    ("match_features",),
    ("retrieval",),
    ("orientation",),
    ("cluster",),
    ("evaluation",),
    ("rendering",),
    ("sfm",),
    ("export",),
    ("localization",),
    ("training",),
    (
        "sfm.pipeline",
        "evaluation.eth",
        "evaluation.posfeat_ablations",
        "evaluation.figures",
    ),  # call what the packages above offer, one stage after another
    ("aachen",),
    ("report",),
    ("hloc_plugin",),
    ("doctor",),
    ("cli",),
)
"""Packages, or single modules of them, the lowest first; those of one row may import each other."""

ROOT = Path(posfeat_hloc.__file__).parent
RANKS = {name: rank for rank, row in enumerate(ORDER) for name in row}


def rank_of(module: str) -> int | None:
    """Of ``sfm.pairs`` that of ``sfm``, unless it has one of its own; None of what is no package or module here."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((RANKS[name] for name in names if name in RANKS), None)


def imported(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and module, without ``posfeat_hloc.``, of each import from this package, also in functions and for types."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "posfeat_hloc":
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("posfeat_hloc."):
            package = (node.module or "").removeprefix("posfeat_hloc.")
            found += [(node.lineno, f"{package}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.startswith("posfeat_hloc."))
            found += [(node.lineno, name.removeprefix("posfeat_hloc.")) for name in names]
    return found


def upward(module: str, tree: ast.Module) -> list[str]:
    own = rank_of(module)
    assert own is not None, f"{module} stands in no row of ORDER"
    ranks = [(line, name, rank_of(name)) for line, name in imported(tree)]
    return [f"{module}, line {line}: {name}" for line, name, rank in ranks if rank is not None and rank > own]


def test_no_import_runs_upward() -> None:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module not in ("__init__", "__main__"):
            found += upward(module, ast.parse(path.read_text(encoding="utf-8")))
    assert found == []


def test_an_upward_import_is_seen_wherever_it_stands() -> None:
    code = (
        "if TYPE_CHECKING:\n    from posfeat_hloc.cluster import Cluster\ndef f():\n    import posfeat_hloc.sfm.pairs\n"
    )
    assert upward("extract_features", ast.parse(code)) == [
        "extract_features, line 2: cluster.Cluster",
        "extract_features, line 4: sfm.pairs",
    ]
    assert upward(
        "sfm.pairs", ast.parse("from posfeat_hloc.sfm.pipeline import x\nfrom posfeat_hloc import stores")
    ) == ["sfm.pairs, line 1: sfm.pipeline.x"]
