"""The demo's page: every query beside its hits. One HTML file with small pictures beside it, nothing from outside."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from .__main__ import Found

_FORMS = {
    "original": "as it was",
    "crop": "cropped",
    "turn": "turned",
    "compress": "recompressed",
    "tint": "recoloured",
    "expose": "re-exposed",
    "caption": "captioned",
    "mirror": "mirrored",
}


def write(
    out: Path,
    folder: Path,
    found: Sequence[Found],
    facts: Sequence[tuple[str, str]],
    forms: Sequence[tuple[str, int, int, float]],
    command: str,
) -> None:
    """Writes out/index.html and out/thumbs/. forms: how the queries fared by what was done to them; empty where
    the right answers are not known."""
    thumbs = _Thumbs(out)
    known = bool(forms)
    rows = "\n".join(_row(f, thumbs, known) for f in found)
    cards = "\n".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(name)}</span></div>" for name, v in facts)
    text = _PAGE.format(
        style=Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
        folder=html.escape(str(folder)),
        legend=_LEGEND if known else "",
        cards=cards,
        rows=rows,
        forms=_forms(forms) if known else "",
        command=html.escape(command),
    )
    (out / "index.html").write_text(text, encoding="utf-8")


class _Thumbs:
    """Small upright copies of the pictures that the page shows."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.made: dict[Path, str] = {}
        (out / "thumbs").mkdir(exist_ok=True)

    def __call__(self, path: Path) -> str:
        if path not in self.made:
            name = f"thumbs/{len(self.made):03}.jpg"
            _small(path).save(self.out / name, quality=85)
            self.made[path] = name
        return self.made[path]


def _small(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (400, 400))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((400, 300))
            return small
    except OSError:  # gone since it was indexed, or of a kind that Pillow does not read
        return Image.new("RGB", (400, 300), "#808080")


def _row(found: Found, thumbs: _Thumbs, known: bool) -> str:
    hits = "\n".join(
        _figure(thumbs(path), path.stem, f"{score:.3f}", ("right" if right else "wrong") if known else "")
        for (path, score), right in zip(found.hits, found.right, strict=True)
    )
    note = f"{sum(found.right)} of {len(found.right)} right · " if known else ""
    query = _figure(thumbs(found.query), found.query.stem, f"{note}{found.milliseconds:.1f} ms", "query")
    return f'<section>{query}<div class="hits">{hits}</div></section>'


def _figure(src: str, name: str, note: str, kind: str) -> str:
    name = html.escape(name)
    scene, dashes, form = name.rpartition("--")
    caption = f"{scene}<i>{html.escape(_FORMS.get(form, form))}</i>" if dashes and form in _FORMS else name
    return (
        f'<figure class="{kind}"><img src="{src}" alt="{name}" loading="lazy">'
        f"<figcaption><span>{caption}</span><b>{note}</b></figcaption></figure>"
    )


def _forms(forms: Sequence[tuple[str, int, int, float]]) -> str:
    rows = "\n".join(
        f"<tr><td>{html.escape(_FORMS[form])}<td>{first} of {count}"
        f'<td><span class="bar"><i style="width:{100 * share:.0f}%"></i></span>{100 * share:.0f} %'
        for form, first, count, share in forms
    )
    return f"""<h2>What was done to the picture that asks</h2>
<table><tr><th>query<th>nearest hit right<th>of all hits right
{rows}
</table>"""


_LEGEND = (
    "<br>Every scene was stored in seven forms; an eighth, which the index has never seen, asks. "
    '<span class="key right">same scene</span> <span class="key wrong">another scene</span>'
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>saccade: what it found</title><style>{style}</style></head><body>
<h1>saccade</h1>
<p>A photograph goes in, the photographs that look like it come out. These answers came over the wire from
a server on this machine, which searched <code>{folder}</code>. {legend}</p>
<div class="facts">
{cards}
</div>
{rows}
{forms}
<h2>Serve it for real</h2>
<p><code>{command}</code></p>
</body></html>
"""
