"""The outermost element of an SVG drawing: its size, its description for screen readers, and its style."""

from collections.abc import Sequence
from html import escape


def make_svg(width: float, height: float, title: str, description: str, style: str, elements: Sequence[str]) -> str:
    """Return a drawing of these elements; the description is read out in place of the drawing."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(description)}">\n{style}\n<title>{escape(title)}</title>\n'
        + "\n".join(elements)
        + "\n</svg>\n"
    )
