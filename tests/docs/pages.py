"""The Markdown pages of this repository, as text and code."""

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "benchmarks/results", "weights")
    for path in (REPOSITORY / folder).glob("*.md")
    if path.name != "CHANGELOG.md"
)
"""Pages that say how this package is used now; the changelog says how it was."""

_BLOCK = re.compile(r"^[ ]{0,3}```(\w*)[^\n]*\n(.*?)^[ ]{0,3}```", re.MULTILINE | re.DOTALL)
_OPERATORS = set("();<>|&")


def label(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """Fenced code of one language."""
    return [code for found, code in _BLOCK.findall(text) if found == language]


def prose(text: str) -> str:
    """A page without its fenced code."""
    return _BLOCK.sub("", text)


def commands(text: str) -> list[list[str]]:
    """What follows ``python`` or ``posfeat-hloc`` in the bash blocks of a page and in code between words.

    Comments, redirections and what a shell puts between commands are left out.
    """
    found = []
    inline = [code for code in re.findall(r"`((?:python|posfeat-hloc) [^`]*)`", prose(text)) if len(code.split()) > 2]
    for script in blocks(text, "bash") + inline:
        words: list[str] = []
        lexer = shlex.shlex(_on_one_line(script), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        for word in [*lexer, ";"]:
            if _OPERATORS.issuperset(word):
                found += _after_python(words)
                words = []
            else:
                words.append(word)
    return found


def _on_one_line(script: str) -> str:
    """Without comments, and with ``;`` where a command ends with its line."""
    result, quote, comment = "", "", False
    for i, char in enumerate(script):
        if comment and char != "\n":
            continue
        comment = not quote and char == "#" and result[-1:] in ("", " ", "\n")
        if char in "'\"" and quote in ("", char):
            quote = "" if quote else char
        if char == "\n" and not quote:
            result = result[:-1] if script[i - 1] == "\\" else result + ";"
        result += " " if comment else char
    return result


def _after_python(words: list[str]) -> list[list[str]]:
    while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] in ("do", "nice", "then")):
        words = words[1:]
    if words[:1] == ["torchrun"] and "-m" in words:
        return [words[words.index("-m") :]]
    if words[:1] == ["posfeat-hloc"]:
        return [["-m", "posfeat_hloc", *words[1:]]]
    return [words[1:]] if words[:1] == ["python"] else []
