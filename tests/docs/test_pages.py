"""Links lead somewhere, tables are whole, and the Python code of the pages refers to what exists."""

import ast
import importlib
import inspect
import re
import types
from urllib.parse import unquote

import pytest

from tests.docs.pages import PAGES, REPOSITORY, blocks, label, prose

each_page = pytest.mark.parametrize("page", PAGES, ids=label)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", lambda found: found[1] or "", heading)
    return re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")


def dead_links(page, text: str) -> list[str]:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        path = (page.parent / name) if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(target)
    return dead


def anchors(path) -> list[str]:
    return [
        slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
    ]


def broken_tables(text: str) -> list[str]:
    """First lines of tables without the line of dashes, and rows with another number of columns than their head."""
    wrong = []
    for table in re.findall(r"(?:^\|.*\n)+", prose(text) + "\n", re.MULTILINE):
        rows = table.splitlines()
        if len(rows) < 2 or not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", rows[1]):
            wrong.append(rows[0])
            continue
        columns = [len(re.sub(r"`[^`]*`|\\\|", "", row).strip().strip("|").split("|")) for row in rows]
        wrong += [row for row, count in zip(rows, columns, strict=True) if count > columns[1]]
    return wrong


@each_page
def test_relative_links_lead_to_files(page):
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@each_page
def test_files_that_pages_name_exist(page):
    files = r"`((?:posfeat_hloc|pipelines|tests|examples|benchmarks)/[\w/]+\.(?:py|md|sh))`"
    named = re.findall(files, page.read_text(encoding="utf-8"))
    assert [path for path in named if not (REPOSITORY / path).is_file()] == []


@each_page
def test_tables_are_whole(page):
    assert broken_tables(page.read_text(encoding="utf-8")) == []


def test_the_checks_see_faults():
    page = REPOSITORY / "README.md"
    text = "[a](docs/nothing.md) [b](#no-such-heading) ![c](docs/images/none.png) [d](LICENSE) [e](https://x.org)\n"
    assert dead_links(page, text) == ["docs/nothing.md", "#no-such-heading", "docs/images/none.png"]
    assert broken_tables("| a | b |\n|---|---|\n| 1 | 2 |\n\n| 3 | 4 |\n") == ["| 3 | 4 |"]
    assert broken_tables("| a | b |\n|---|---|\n| 1 | 2 | 3 |\n| `x|y` | 2 |\n") == ["| 1 | 2 | 3 |"]
    assert problems("from posfeat_hloc import confs, nothing") == ["posfeat_hloc.nothing does not exist"]
    assert problems("from posfeat_hloc import confs\nconfs.extractors['no-such']['model']") == [
        "confs.extractors['no-such'] does not exist"
    ]
    assert problems("from posfeat_hloc import extract_features as e\ne.main(1, 2, color=3)\ne.mean(1)") == [
        "e.main: got an unexpected keyword argument 'color'", "e.mean does not exist",
    ]  # fmt: skip
    assert problems("x = (") == ["'(' was never closed"]


def problems(code: str) -> list[str]:
    """What a piece of Python code refers to in this package that does not exist; it is not run."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return [str(error.msg)]
    return _References().check(tree)


class _References(ast.NodeVisitor):
    """Follows imported names through attributes, constant subscripts and the arguments of calls."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {}
        self.found: list[str] = []

    def check(self, tree: ast.AST) -> list[str]:
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
        self.visit(tree)
        return list(dict.fromkeys(self.found))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in ("posfeat_hloc", "pipelines"):
                    module = importlib.import_module(alias.name)
                    self.names[alias.asname or alias.name.split(".")[0]] = (
                        module if alias.asname else importlib.import_module(alias.name.split(".")[0])
                    )
            return
        if (node.module or "").split(".")[0] not in ("posfeat_hloc", "pipelines"):
            return
        try:
            module = importlib.import_module(node.module or "")
        except ImportError as error:
            self.found.append(str(error))
            return
        for alias in node.names:
            try:
                value = getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                self.names[alias.asname or alias.name] = value
            except ImportError:
                self.found.append(f"{node.module}.{alias.name} does not exist")

    def _value(self, node: ast.AST) -> object:
        """What an expression stands for, None where only running it would tell."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value)
            if not isinstance(owner, (types.ModuleType, type)):
                return None
            if not hasattr(owner, node.attr):
                self.found.append(f"{ast.unparse(node)} does not exist")
            return getattr(owner, node.attr, None)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner = self._value(node.value)
            if isinstance(owner, dict):
                if node.slice.value not in owner:
                    self.found.append(f"{ast.unparse(node)} does not exist")
                return owner.get(node.slice.value)
        return None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._value(node)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._value(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = self._value(node.func)
        plain = not any(isinstance(a, ast.Starred) for a in node.args) and all(k.arg for k in node.keywords)
        if callable(called) and plain:
            try:
                inspect.signature(called).bind(*node.args, **{str(k.arg): k for k in node.keywords})
            except TypeError as error:
                self.found.append(f"{ast.unparse(node.func)}: {error}")
        self.generic_visit(node)


@each_page
def test_python_code_refers_to_what_exists(page):
    for code in blocks(page.read_text(encoding="utf-8"), "python"):
        assert problems(code) == [], code


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_refer_to_what_exists(path):
    assert problems(path.read_text(encoding="utf-8")) == []


def test_readme_is_short_and_its_first_commands_set_everything_up():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1000
    first = blocks(text, "bash")[0].splitlines()
    assert first[0].startswith('pip install -c constraints.txt ".[report]" && ')
    assert "--demo" in first[1]


@each_page
def test_lines_of_prose_fit_120_columns(page):
    """Tables, links and commands in code cannot be broken."""
    lines = [re.sub(r"`[^`]*`", "", line) for line in prose(page.read_text(encoding="utf-8")).splitlines()]
    assert [line for line in lines if len(line) > 120 and not line.startswith("|") and "](" not in line] == []
