"""Of several files that cannot be used, and why."""

from __future__ import annotations

_FEW = 3
"""Reasons that are told one by one."""


def counted(reasons: dict[str, str]) -> str:
    """Why several files cannot be used: each kind of reason once, with the number of its files and one of them.

    Args:
        reasons: name -> a sentence, which may begin with the path of the file.
    """
    kinds: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        path, colon, rest = reason.partition(": ")
        known = colon and path.replace("\\", "/").endswith(name)
        kinds.setdefault((rest if known else reason).replace(name, "..."), []).append(name)
    if len(reasons) <= _FEW:
        return "; ".join(reasons.values())
    ranked = sorted(kinds.items(), key=lambda item: -len(item[1]))
    told = [f"{len(names)} times: {reason} (such as {names[0]})" for reason, names in ranked[:_FEW]]
    return "; ".join([*told, *([f"and {len(ranked) - _FEW} more reasons"] if len(ranked) > _FEW else [])])


def listing(title: str, items: dict[str, str], limit: int = 10) -> list[str]:
    """The first of several names with what is to be said of them."""
    if not items:
        return []
    lines = [f"  {title} ({len(items)})"]
    lines += [f"    {name}: {reason}" for name, reason in list(items.items())[:limit]]
    if len(items) > limit:
        lines.append(f"    ... and {len(items) - limit} more; {counted(items)}")
    return lines
