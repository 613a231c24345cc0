"""Lists the texts of `bench` that a user can read, one a line: `file:line: text`.

    python docs/list_messages.py                      # all of them, for an editing pass
    python docs/list_messages.py bench/suite --grep "must be"

Texts are strings of two words or more (errors, notes, help, sentences of reports, meanings of
settings), the docstrings of commands and of registered functions, and the words of templates and
pages. `{…}` stands for what the program fills in. A few lines are not messages.
"""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = {".j2", ".html"}
MARKUP = re.compile(r"\{#.*?#\}|\{%.*?%\}|<style.*?</style>|<script.*?</script>|<[^>]*>", re.DOTALL)
TWO_WORDS = re.compile(
    r"[^\W\d_]{2,}[^\w\s]* +\W*[^\W\d_]{2,}|[^\W\d_]{2,} \{…\}|\{…\} [^\W\d_]{2,}"
)
JS_STRING = re.compile(r"""(["'`])((?:(?!\1)[^\\\n]|\\.)*)\1""")


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each message in a file: Python, JavaScript, HTML or Jinja."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        found = sorted(set(_of_python(ast.parse(source), commands=path.parent.name == "cli")))
    elif path.suffix == ".js":
        found = list(_of_script(source))
    else:
        found = list(_of_template(source))
    return ((line, " ".join(text.split())) for line, text in found if TWO_WORDS.search(text))


def _of_python(tree: ast.AST, *, commands: bool) -> Iterator[tuple[int, str]]:
    shown = set(_shown_docstrings(tree, commands=commands))
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        text = _text(node)
        if text is not None and isinstance(node, ast.expr):
            yield node.lineno, text
            holes = (inner for inner in ast.walk(node) if isinstance(inner, ast.FormattedValue))
            waiting.extend(hole.value for hole in holes)
        elif not _is_docstring(node) or node in shown:
            waiting.extend(ast.iter_child_nodes(node))


def _shown_docstrings(tree: ast.AST, *, commands: bool) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and _is_docstring(node.body[0]):
            registered = any("register" in ast.unparse(one) for one in node.decorator_list)
            if registered or (commands and not node.name.startswith("_")):
                yield node.body[0]


def _is_docstring(node: ast.AST) -> bool:
    """Whether it is a string that stands alone, as docstrings of modules and variables do too."""
    return isinstance(node, ast.Expr) and _text(node.value) is not None


def _text(node: ast.AST) -> str | None:
    """The text of a string, an f-string, or strings joined by `+`; None of anything else."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) or "{…}" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            ends = _text(left), _text(right)
            return None if ends == (None, None) else "".join(end or "{…}" for end in ends)
    return None


def _of_script(source: str) -> Iterator[tuple[int, str]]:
    for match in JS_STRING.finditer(source):
        yield source.count("\n", 0, match.start()) + 1, match[2]


def _of_template(source: str) -> Iterator[tuple[int, str]]:
    bare = MARKUP.sub(lambda match: "\n" * match[0].count("\n") + "\0", source)
    line = 1
    for part in re.split("(\0|\n)", bare):
        yield line, re.sub(r"\{\{.*?\}\}", "{…}", part)
        line += part.count("\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="*", type=Path, default=[ROOT / "bench"])
    parser.add_argument("--grep", default="", help="only texts that this regular expression finds")
    options = parser.parse_args()
    for place in options.places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in files:
            if path.suffix in {".py", ".js", *TEMPLATES}:
                for line, text in messages(path):
                    if re.search(options.grep, text):
                        print(f"{path}:{line}: {text}")


if __name__ == "__main__":
    main()
