"""Draws a recursion as SVG: `draw_recursion` turns a model's config into the text of an SVG file."""

from collections.abc import Mapping
from html import escape
from itertools import chain

from pipeline.experiments.svg_frame import make_svg
from solver.model.config import ModelConfig
from solver.model.equations import INPUT, Run

COLUMN = 34
ROW = 38
LEFT = 64
TOP = 34
BOX = 24
FOOT = 40


def draw_recursion(config: ModelConfig, title: str) -> str:
    """Return an SVG drawing of one supervision step of a model (`pipeline.experiments.model_zoo` has the legend)."""
    recursion = config.recursion
    runs = list(recursion.schedule(config.h_cycles, config.l_cycles))
    updates = list(chain.from_iterable([run] * run.times for run in runs))
    rows = {name: TOP + ROW * number for number, name in enumerate((INPUT, *recursion.latents[1:], recursion.answer))}
    words = describe_step(config)
    width = max(LEFT + COLUMN * len(updates) + 96, 7 * len(words))
    height = TOP + ROW * len(rows) + FOOT
    end = LEFT + COLUMN * len(updates) + (20 if recursion.noisy else 12)
    parts = [_lines(rows, config, end), _cycles(config, len(updates), height)]
    parts += [_update(run, LEFT + COLUMN * (place + 0.5), rows) for place, run in enumerate(updates)]
    parts.append(f'<text class="soft" x="8" y="{height - 10}">{escape(words)}</text>')
    return make_svg(width, height, title, f"{title}. {words}", STYLE, parts)


def describe_step(config: ModelConfig) -> str:
    """Return the caption of a drawing: the number of updates, updates with gradient, and supervision steps."""
    runs = list(config.recursion.schedule(config.h_cycles, config.l_cycles))
    count, with_gradient = (sum(run.times for run in part) for part in (runs, [run for run in runs if run.gradient]))
    steps = f"up to {config.max_steps} supervision steps" if config.max_steps > 1 else "one supervision step"
    passes = ", and one more forward pass to learn when to continue" if config.learns_to_continue else ""
    if config.recursion.settles:
        limit = f"at most {config.equilibrium.iterations} times"
        repeats = f"repeated until it converges, {limit}; gradient of the fixed point"
        return f"one update, {repeats} (filled); {steps}{passes}"
    noise = f", {sum(run.times for run in runs if run.update.noisy)} with noise (e)" if config.recursion.noisy else ""
    return f"{count} update{'s' * (count > 1)}, {with_gradient} with gradient (filled){noise}; {steps}{passes}"


STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; } .soft { font-size: 12px; fill: #59636e; }
path, circle, rect { stroke: #59636e; stroke-width: 1.5; fill: none; } circle { fill: #59636e; stroke: none; }
rect { fill: #ffffff; } rect.learnt { fill: #0969da; stroke: #0969da; } text.learnt { fill: #ffffff; }
text.box { font-size: 12px; text-anchor: middle; } path.cycle { stroke-dasharray: 2 4; stroke-width: 1; }
circle.noise { fill: #ffffff; stroke: #59636e; stroke-width: 1.5; } text.noise { font-size: 10px; text-anchor: middle; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .soft { fill: #9198a1; } path, circle, rect { stroke: #9198a1; } circle { fill: #9198a1; }
circle.noise { fill: #0d1117; stroke: #9198a1; }
rect { fill: #0d1117; } rect.learnt { fill: #1f6feb; stroke: #1f6feb; } text.learnt { fill: #ffffff; } }
</style>"""


def _lines(rows: Mapping[str, float], config: ModelConfig, end: float) -> str:
    """Draw a horizontal line for the input and each latent; an arrow leads from the answer to the heads."""
    parts = []
    recursion = config.recursion
    heads = "answer" if config.halting == "random" else "answer, halt"
    for name, y in rows.items():
        parts.append(f'<text x="8" y="{y + 4}">{_name(name)}</text><path d="M40 {y}H{end}"/>')
        if name == recursion.answer:
            parts.append(
                f'<path d="M{end} {y}l-6 -4m6 4l-6 4"/><text class="soft" x="{end + 6}" y="{y + 4}">{heads}</text>'
            )
        elif name != INPUT and recursion.carry == "keep":
            parts.append(f'<text class="soft" x="{end + 6}" y="{y + 4}">carried</text>')
    return "\n".join(parts)


def _cycles(config: ModelConfig, updates: int, height: float) -> str:
    """Draw a dashed vertical line between cycles."""
    per_cycle = updates // config.h_cycles
    places = [LEFT + COLUMN * per_cycle * cycle for cycle in range(1, config.h_cycles)]
    return "\n".join(f'<path class="cycle" d="M{x} {TOP - 22}V{height - FOOT}"/>' for x in places)


def _update(run: Run, x: float, rows: Mapping[str, float]) -> str:
    """Draw the column of an update: dots on the values that it reads, a box on the latent that it updates."""
    update = run.update
    learnt = ' class="learnt"' if run.gradient else ""
    heights = [rows[name] for name in (*update.reads, update.latent)]
    y = rows[update.latent]
    dots = [rows[name] for name in update.reads if name != update.latent]
    label = f'<text class="box{" learnt" if run.gradient else ""}" x="{x}" y="{y + 4}">{_name(update.network)}</text>'
    return "".join(
        (
            f'<path d="M{x} {min(heights)}V{max(heights)}"/>',
            *(f'<circle cx="{x}" cy="{dot}" r="4"/>' for dot in dots),
            f'<rect{learnt} x="{x - BOX / 2}" y="{y - BOX / 2}" width="{BOX}" height="{BOX}" rx="4"/>',
            label,
            _noise(x, y) if update.noisy else "",
            _loop(x, y) if update.settles else "",
        )
    )


def _noise(x: float, y: float) -> str:
    """Draw a circle for the noise that is added after an update."""
    x += BOX / 2 + 5
    return f'<circle class="noise" cx="{x}" cy="{y}" r="7"/><text class="noise" x="{x}" y="{y + 3}">e</text>'


def _loop(x: float, y: float) -> str:
    """Draw an arrow over the box of an update that is repeated, from its right side to its left side."""
    left = x - BOX / 2 - 7
    right = x + BOX / 2 + 7
    top = y - BOX / 2 - 9
    return f'<path d="M{right} {y}V{top}H{left}V{y}"/><path d="M{left} {y}l-4 -7m4 7l4 -7"/>'


def _name(name: str) -> str:
    """Return a name as SVG text, with the part after its underscore as a subscript."""
    letter, _, index = name.partition("_")
    return f'{letter}<tspan dy="3" font-size="9">{index}</tspan>' if index else letter
