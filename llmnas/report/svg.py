"""The few SVG elements that drawings and plots are made of, and the one style they share.

A picture carries its own style, so it can be read alone, in a light and in a dark page. Text from outside is escaped
here and nowhere else.
"""

from __future__ import annotations

import hashlib
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from llmnas.report.format import clean

STYLE: Final = """
.ln{--ink:#1c2430;--soft:#667085;--line:#d5dae3;--card:#fff;--accent:#3b5bdb;--good:#0b8f6a;--warm:#c2550a;--dim:#b3bac7;
--stem:#5f3dc4;--conv:#2563eb;--light:#0e8fa3;--pool:#b7791f;--skip:#7b8494;--join:#475569;--attend:#c026a3;--act:#2f9e44;
font-family:Inter,"Segoe UI",system-ui,-apple-system,sans-serif;color:var(--ink)}
@media (prefers-color-scheme:dark){.ln{--ink:#e8ebf2;--soft:#9aa4b8;--line:#343c4d;--card:#1a202c;--accent:#8ea6ff;
--good:#4cd3a5;--warm:#ffa25e;--dim:#566075;--stem:#a78bfa;--conv:#6ea0ff;--light:#4cc9dc;--pool:#eabe5d;--skip:#8f99ab;
--join:#a3b0c4;--attend:#f08be0;--act:#6fd18a}}
.ln text{fill:var(--ink);font-size:13.5px}.ln .soft{fill:var(--soft)}.ln .small{font-size:12px}
.ln .bold{font-weight:600}.ln .grid{stroke:var(--line);stroke-width:1;opacity:.7}
.ln .axis{stroke:var(--soft);stroke-width:1}
"""


LONGEST: Final = 100_000
"""Characters of an attribute: the path of a curve with thousands of points is not cut."""


def element(name: str, body: str = "", **attributes: object) -> str:
    """Returns an element. ``class_`` is the class, underscores become hyphens, None is left out, floats are rounded."""
    listed = "".join(f" {key.rstrip('_').replace('_', '-')}={quoteattr(_plain(value))}"
                     for key, value in attributes.items() if value is not None)
    return f"<{name}{listed}>{body}</{name}>" if body else f"<{name}{listed}/>"


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else clean(value, LONGEST)


def text(x: float, y: float, content: object, class_: str = "", anchor: str = "start", **more: object) -> str:
    """Returns text, escaped."""
    return element("text", escape(clean(content, 200)) or " ", x=x, y=y, class_=class_ or None,
                   text_anchor=None if anchor == "start" else anchor, **more)


def title(content: object) -> str:
    """Returns the title of an element: what a pointer over it shows and a screen reader says."""
    return f"<title>{escape(clean(content, 400)) or 'untitled'}</title>"


def document(width: float, height: float, heading: str, description: str, body: str) -> str:
    """Returns a whole picture with its text alternative: a title and a description."""
    named_by = f"{heading}{description}{len(body)}".encode("utf-8", "replace")
    mark = "i" + hashlib.blake2b(named_by, digest_size=5).hexdigest()
    named = (f'<title id="{mark}t">{escape(clean(heading, 200)) or "picture"}</title>'
             f'<desc id="{mark}d">{escape(clean(description, 4000)) or "no data"}</desc>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="ln" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
            f'width="{width:.0f}" height="{height:.0f}" aria-labelledby="{mark}t {mark}d">{named}'
            f"<style>{STYLE}</style>{body}</svg>")
