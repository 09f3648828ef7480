"""HTML pages: a template's name and what it shows come in, a page without any external request goes out.

`page.html.j2` is the frame of every page: palette, looks and the symbols that its pictures refer to.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_page(template: str, **values: object) -> str:
    """The page; everything in `values` is escaped. Each page has a `title`, a `kind` and its pictures' `symbols`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
