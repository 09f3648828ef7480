"""Render Jinja templates to HTML pages that make no external requests.

`page.html.j2` is the base of every full page, with the palettes and the styles that all pages share.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from submissions.report.svg_grid import PALETTES


def render_page(template: str, **values: object) -> str:
    """Return the rendered template; everything in `values` is escaped.

    Templates that extend `page.html.j2` need a `title` and a `kind`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values, palettes=PALETTES)
