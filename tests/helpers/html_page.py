"""A page of HTML, read back, and what is put into one."""

from html.parser import HTMLParser

import numpy as np

from augment.task import Pair, Task
from submissions.recursion_trace import Recursion
from submissions.vote import Candidate

VOID = {"meta", "link", "br", "input"}


def grid(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], np.uint8)


INPUT, TRUTH, OTHER, SMALL = grid("12", "34"), grid("11", "22"), grid("11", "23"), grid("1")


TASK = Task("task<1>", (Pair(INPUT, TRUTH),), (Pair(INPUT, TRUTH),))


def candidates(*grids: np.ndarray) -> list[Candidate]:
    return [Candidate(answer, len(grids) - place, 0.5) for place, answer in enumerate(grids)]


def recursion(steps: int = 3) -> Recursion:
    canvases = np.arange(steps * 12, dtype=np.uint8).reshape(steps, 3, 4) % 12
    moved = np.linspace(1, 0, 2 * steps, dtype=np.float32).reshape(steps, 2)
    return Recursion(canvases, canvases[::-1], moved, moved[::-1], np.array([0.5, np.nan, 1][:steps], np.float32))


class Page(HTMLParser):
    """Collects links, IDs and text, and minds that every tag is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.ids, self.open, self.words, self.scripts = [], [], [], "", {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "script":
            self.script = dict(attrs).get("id")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[self.script] = self.scripts.get(self.script, "") + data
        self.words += data if not {"style", "script"} & {*self.open} else ""
