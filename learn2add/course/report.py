"""The PDF report of a hand-in, set by Typst: each item's task, answer, code, results and figures.

What a student has written goes into Typst as string literals, never as markup, so that no
character of it can stop the typesetting. Long lines of code and of printed results are broken, not
cut.
"""

import io
import json
import re
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learn2add.course.handin import Item

COLUMNS = 100
"""Characters of a line of code, as many as fit between the margins at the size of ``raw``."""
PREAMBLE = """
#set page("a4", margin: (x: 2cm, y: 2.2cm), numbering: "1 / 1")
#set text(size: 10.5pt, lang: "en")
#set par(justify: true)
#set heading(numbering: none)
#show heading: set block(above: 1.6em, below: 0.8em)
#show raw: set text(size: 7.7pt)
#show raw.where(block: true): it => block(fill: luma(244), inset: 5pt, width: 100%, it)
#show link: set text(fill: blue.darken(30%))
"""


def pdf(name: str, items: "list[Item]") -> bytes:
    """Return the report of a student's items as PDF.

    Raises:
        ModuleNotFoundError: Typst, or mistune, is not installed; the message says how to.
    """
    try:
        import mistune
        import typst
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing: pip install typst mistune") from error
    parse = mistune.create_markdown(renderer=None, plugins=["math", "table", "strikethrough"])
    with tempfile.TemporaryDirectory() as place:
        writer = Writer(Path(place), parse)
        source = Path(place) / "report.typ"
        source.write_text("\n".join(writer.report(name, items)), encoding="utf-8")
        return typst.compile(str(source), root=place)


def literal(text: str) -> str:
    """Return a text as a string of Typst; what no font can show is left out."""
    return json.dumps(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text), ensure_ascii=False)


def wrapped(text: str) -> str:
    """Break lines that are too long for the page, with what follows indented."""
    lines = []
    for line in text.expandtabs(4).splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        parts = textwrap.wrap(
            line, COLUMNS, subsequent_indent=indent[:40], drop_whitespace=False,
            replace_whitespace=False, break_on_hyphens=False,
        )  # fmt: skip
        lines += parts or [""]
    return "\n".join(lines)


class Writer:
    """Writes Typst; images go beside it, into ``place``."""

    def __init__(self, place: Path, parse: Any) -> None:
        self.place, self.parse, self.count = place, parse, 0

    def report(self, name: str, items: "list[Item]") -> Iterable[str]:
        """Yield the whole document."""
        title = "Learning to sum and to generate images of numbers"
        yield f"#set document(title: {literal(title)}, author: {literal(name)})"
        yield PREAMBLE
        yield f"#text(size: 17pt, weight: 700, {literal(title)})\n\n#text({literal(name)})\n"
        for item in items:
            yield f"#heading({literal('Task ' + item.name)})"
            if item.task:
                task = re.sub(rf"^\*\*Task {re.escape(item.name)}\*\* *", "", item.task)
                yield f'#text(fill: luma(90), style: "italic")[{self.blocks(task)}]\n'
            yield self.blocks(item.answer) if item.answer else "#emph[No answer.]"
            if item.said:
                yield f"\nThe check says: #emph({literal(item.said)})\n"
            yield from (self.raw(code, "python") for code in item.code)
            yield from (self.result(shown) for shown in item.shown)

    def raw(self, text: str, lang: str = "") -> str:
        """Return code or printed text."""
        return f"\n#raw(block: true, lang: {literal(lang or 'text')}, {literal(wrapped(text))})\n"

    def result(self, shown: str | tuple[bytes, str]) -> str:
        """Return a printed text, or a figure with its words."""
        if isinstance(shown, str):
            return self.raw(shown)
        image, words = shown
        file = self.stored(image, "png")
        alt = f", alt: {literal(words)}" if words else ""
        return f"\n#align(center, image({literal(file)}, width: {self.width(image)}{alt}))\n"

    def width(self, image: bytes) -> str:
        """Return how wide an image is set: as on a screen, never wider than the page."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(image)) as opened:
                return f"{min(80.0, opened.width / 11):.0f}%"
        except OSError as error:
            raise ValueError(f"a figure is no PNG: {error}") from error

    def stored(self, content: bytes, kind: str) -> str:
        """Write a file for Typst to read, and return its name."""
        self.count += 1
        file = f"{self.count}.{kind}"
        (self.place / file).write_bytes(content)
        return file

    def blocks(self, markdown: str) -> str:
        """Return a text in Markdown."""
        return "\n\n".join(filter(None, map(self.block, self.parse(markdown))))

    def block(self, token: dict[str, Any]) -> str:
        """Return one paragraph, list, table, ..."""
        kind = token["type"]
        if kind in ("paragraph", "block_text"):
            return self.inline(token["children"])
        if kind == "heading":
            return f"#strong[{self.inline(token['children'])}]"
        if kind == "block_code":
            return self.raw(token["raw"], token.get("attrs", {}).get("info", "").split(" ")[0])
        if kind == "block_math":
            return f"#align(center)[{self.math(token['raw'])}]"
        if kind == "block_quote":
            return f"#pad(left: 1em)[{self.each(token)}]"
        if kind == "list":
            form = "enum" if token["attrs"]["ordered"] else "list"
            return (
                f"#{form}(" + "".join(f"[{self.each(part)}]," for part in token["children"]) + ")"
            )
        if kind == "table":
            return self.table(token)
        if kind == "thematic_break":
            return "#line(length: 100%)"
        return self.inline([token])

    def each(self, token: dict[str, Any]) -> str:
        """Return the blocks inside another."""
        return "\n\n".join(map(self.block, token.get("children", [])))

    def table(self, token: dict[str, Any]) -> str:
        """Return a table."""
        head, *bodies = token["children"]
        rows = [head, *(row for body in bodies for row in body["children"])]
        cells = [[f"[{self.inline(c['children'])}]" for c in row["children"]] for row in rows]
        inside = ", ".join(cell for row in cells for cell in row)
        return f"#table(columns: {len(cells[0])}, {inside})"

    def inline(self, tokens: list[dict[str, Any]]) -> str:
        """Return pieces of a line; each ends its expression, so that nothing runs into the next."""
        return "".join(f"{piece};" for piece in map(self.piece, tokens) if piece)

    def piece(self, token: dict[str, Any]) -> str:
        """Return one piece of a line."""
        kind, text = token["type"], token.get("raw", "")
        if kind == "inline_math":
            return self.math(text)
        if kind == "codespan":
            return f"#raw({literal(text)})"
        if kind in ("softbreak", "linebreak"):
            return '#" "' if kind == "softbreak" else "#linebreak()"
        if kind in ("inline_html", "block_html"):
            text = " ".join(re.sub(r"<[^>]*>", " ", text).split())
        if "children" in token:
            inside = f"[{self.inline(token['children'])}]"
            shape = {"strong": "strong", "emphasis": "emph", "strikethrough": "strike"}.get(kind)
            url = token.get("attrs", {}).get("url", "")
            if kind == "link" and url.startswith(("http:", "https:")):
                return f"#link({literal(url)}){inside}"
            return f"#{shape}{inside}" if shape else f"#{inside}"
        return f"#{literal(text)}" if text else ""

    def math(self, formula: str) -> str:
        """Return a formula, drawn by Matplotlib; as it was typed where that cannot read it."""
        from matplotlib.mathtext import math_to_image

        box = io.BytesIO()
        try:
            depth = math_to_image(f"${' '.join(formula.split())}$", box, dpi=72, format="svg")
        except ValueError:
            return f"#raw({literal(formula)})"
        file = self.stored(box.getvalue(), "svg")
        return f"#box(baseline: {depth:.1f}pt, image({literal(file)}))"
