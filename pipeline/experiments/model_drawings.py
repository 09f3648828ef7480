"""A recursion as an SVG drawing: a model's config in, text out."""

from collections.abc import Mapping
from html import escape
from itertools import chain

from solver.model.config import ModelConfig
from solver.model.equations import (
    INPUT,
    Run,
)

COLUMN = 34
ROW = 38
LEFT = 64
TOP = 34


BOX = 24


FOOT = 40


def draw_recursion(config: ModelConfig, title: str) -> str:
    """One supervision step as SVG text."""
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
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(f"{title}. {words}")}">\n{STYLE}\n<title>{escape(title)}</title>\n'
        + "\n".join(parts)
        + f'\n<text class="soft" x="8" y="{height - 10}">{escape(words)}</text>\n</svg>\n'
    )


def describe_step(config: ModelConfig) -> str:
    """What a drawing says underneath."""
    runs = list(config.recursion.schedule(config.h_cycles, config.l_cycles))
    made, learnt = (sum(run.times for run in each) for each in (runs, [run for run in runs if run.gradient]))
    steps = f"up to {config.max_steps} supervision steps" if config.max_steps > 1 else "one supervision step"
    passes = ", and one forward pass more to learn when to go on" if config.learns_to_continue else ""
    if config.recursion.settles:
        how = f"until it settles, at most {config.equilibrium.iterations} times; gradient of where it settles"
        return f"one update {how} (filled); {steps}{passes}"
    noise = f", {sum(run.times for run in runs if run.update.noisy)} with noise (e)" if config.recursion.noisy else ""
    return f"{made} update{'s' * (made > 1)}, {learnt} with gradient (filled){noise}; {steps}{passes}"


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
    """A line for each value, from its name on; the answer's goes on to the heads."""
    drawn = []
    recursion = config.recursion
    read = "answer" if config.halting == "random" else "answer, halt"
    for name, y in rows.items():
        drawn.append(f'<text x="8" y="{y + 4}">{_name(name)}</text><path d="M40 {y}H{end}"/>')
        if name == recursion.answer:
            drawn.append(
                f'<path d="M{end} {y}l-6 -4m6 4l-6 4"/><text class="soft" x="{end + 6}" y="{y + 4}">{read}</text>'
            )
        elif name != INPUT and recursion.carry == "keep":
            drawn.append(f'<text class="soft" x="{end + 6}" y="{y + 4}">carried</text>')
    return "\n".join(drawn)


def _cycles(config: ModelConfig, updates: int, height: float) -> str:
    """A dashed line between cycles."""
    each = updates // config.h_cycles
    places = [LEFT + COLUMN * each * cycle for cycle in range(1, config.h_cycles)]
    return "\n".join(f'<path class="cycle" d="M{x} {TOP - 22}V{height - FOOT}"/>' for x in places)


def _update(run: Run, x: float, rows: Mapping[str, float]) -> str:
    """A column: dots on what is read, a box on what is made."""
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
    """What is drawn by chance comes after the box."""
    x += BOX / 2 + 5
    return f'<circle class="noise" cx="{x}" cy="{y}" r="7"/><text class="noise" x="{x}" y="{y + 3}">e</text>'


def _loop(x: float, y: float) -> str:
    """An arrow from behind the box back to before it."""
    left = x - BOX / 2 - 7
    right = x + BOX / 2 + 7
    top = y - BOX / 2 - 9
    return f'<path d="M{right} {y}V{top}H{left}V{y}"/><path d="M{left} {y}l-4 -7m4 7l4 -7"/>'


def _name(name: str) -> str:
    """A name with what follows its underscore set lower."""
    letter, _, index = name.partition("_")
    return f'{letter}<tspan dy="3" font-size="9">{index}</tspan>' if index else letter
