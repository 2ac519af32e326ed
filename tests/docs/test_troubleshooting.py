"""The messages that the troubleshooting page quotes are messages of the code."""

import ast
import re

from tests.docs.pages import REPOSITORY

PAGE = REPOSITORY / "docs/troubleshooting.md"


def messages() -> str:
    """All strings of the package and the commands, with ``...`` for what is filled in."""
    found = []
    for path in [*(REPOSITORY / "posfeat_hloc").rglob("*.py"), *(REPOSITORY / "pipelines").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def quoted(text: str) -> list[str]:
    """Code in the first column of the tables."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell)]


def test_quoted_messages_exist():
    quotes = quoted(PAGE.read_text(encoding="utf-8"))
    assert len(quotes) > 25
    known = messages()
    missing = []
    for quote in quotes:
        pieces = [piece.strip() for piece in re.split(r"\.\.\.|\(n\)|\b\d+(?:x\d+)?\b|--ray", quote)]
        if not all(piece.strip("()[] ") in known for piece in pieces):
            missing.append(quote)
    assert missing == []


def test_a_message_that_is_gone_is_seen():
    assert quoted("| `only 12 keypoints` | `code` elsewhere |") == ["only 12 keypoints"]
    assert "a message that nobody writes" not in messages()
