"""HTML pages: a template's name and what it shows come in, a page without any external request goes out.

`page.html.j2` is the frame of every page: the palettes and the looks that all pages share.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from submissions.report.svg_grid import PALETTES


def render_page(template: str, **values: object) -> str:
    """The page; everything in `values` is escaped. Each page has a `title` and a `kind`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values, palettes=PALETTES)
