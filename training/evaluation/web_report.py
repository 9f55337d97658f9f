"""One HTML file a run: every figure and plot, the machine and the model, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin-bottom: 2rem }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd }
td { font-variant-numeric: tabular-nums }
th { font-weight: 500 }
img { max-width: 100% }
"""


def write_report(path: Path, title: str, document: Mapping[str, Any], plots: Mapping[str, Figure]) -> None:
    """Write the figures of a run's JSON document and its plots, by caption, as one page. Makes the folder."""
    machine = document.get("machine", {})
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Model <strong>{escape(str(document.get('model', 'unknown')))}</strong>, "
        f"measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</p>",
        *(f"<h2>{escape(caption)}</h2>{_image(figure, caption)}" for caption, figure in plots.items()),
        "<h2>Figures</h2>",
        _table({key: value for key, value in document.items() if key not in ("machine", "peer")}),
    ]
    for name, figures in document.get("peer", {}).items():
        parts += [f"<h2>Peer {escape(name)}</h2>", _table(figures)]
    parts += ["<h2>Machine</h2>", _table(machine)]
    body = "\n".join(parts)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _image(figure: Figure, caption: str) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    encoded = base64.b64encode(picture.getvalue()).decode("ascii")
    return f'<img alt="{escape(caption)}" src="data:image/png;base64,{encoded}">'


def _table(figures: Mapping[str, Any]) -> str:
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _flat(figures))
    return f"<table>\n{rows}\n</table>"


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested names joined by dots, with their values as text."""
    for key, value in figures.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if value is None or value == {}:
        return "none"
    return str(value)
