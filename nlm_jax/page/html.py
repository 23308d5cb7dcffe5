"""Elements of HTML pages: the document with its style, sections, tables, figures. Text is escaped here."""

import html
import pathlib
from collections.abc import Sequence

STYLE = pathlib.Path(__file__).with_name("page.css")


def page(title: str, body: str) -> str:
    """A complete HTML document with `body` (HTML)."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
        f"</head><body><main>{body}</main></body></html>"
    )


def section(title: str, body: str) -> str:
    """A part of the page under a heading."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; cells are escaped."""
    cells = lambda tag, row: "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row)  # noqa: E731
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(picture_html: str, caption: str) -> str:
    """A picture with its caption."""
    return f"<figure>{picture_html}<figcaption>{html.escape(caption)}</figcaption></figure>"
