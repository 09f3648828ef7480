"""One simulated run: a layout, a budget and perhaps a fault come in, the outcome goes out."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from pipeline.config.run_config import UnattendedSettings
from pipeline.config.setting_names import flatten
from pipeline.recipes.small import cpu_trm
from tests.kaggle_simulation.injected_faults import Fault, Going
from tests.kaggle_simulation.layout import Kaggle, hidden_tasks, lay_out, learnable_tasks
from tests.kaggle_simulation.sandbox import CHECKOUT, Sandbox
from tests.kaggle_simulation.watch import FIRST_WITHIN, Look, Watch

POLL_INTERVAL = 0.2
SAID, KEPT, SUBMISSION = "said.txt", "kept", "submission.json"
RUNNER = Path(__file__).with_name("notebook.py")
SECONDS_AROUND = 60.0
"""What a notebook may take besides its budget: to start, to install, to show."""
OVERTIME = 30.0
"""Seconds after its budget for which a run is waited for."""
LEAST_MARGIN = 3.0
EVALUATION_TASKS = 2
"""Of ARC-AGI-2's, in runs of minutes: with sides up to 10; more or larger ones would take most of the time."""
SETTINGS = flatten(asdict(cpu_trm().model), "model.") | {
    "puzzles.augmentations": 15,
    "train.batch_size": 32,
    "train.lr": 7e-4,
    "train.warmup": 20,
    "train.shift": False,
    "train.average": 0.98,
    "train.log_every": 10,
    "predict.steps": 4,
}
"""What minutes on two cores can learn with: the network of the `cpu` recipe, and an average over few steps."""


@dataclass
class Outcome:
    """What became of a run. Seconds are counted from outside, the start of the process included.

    unfelt: what the run should say of the fault and does not
    asked_last: whether answers of the last pass were voted, such as they are
    passed_since: whether the last pass answered all after the fault; it has answers of its own, by chance perhaps worse
    """

    name: str
    budget: float
    exit: int | None = None
    used: float = 0.0
    looks: list[Look] = field(default_factory=list)
    answered: int = 0
    inputs: int = 0
    solved: int = 0
    judged: int = 0
    fault_at: float | None = None
    solved_then: int = 0
    asked_last: bool = False
    passed_since: bool = False
    incidents: list[str] = field(default_factory=list)
    unfelt: str = ""
    due: float = FIRST_WITHIN
    struck: bool = True
    left: int = 0

    @property
    def kept(self) -> float:
        """Seconds of the budget that were left over."""
        return self.budget - self.used

    @property
    def margin(self) -> float:
        """Seconds that are promised to be left over."""
        return max(LEAST_MARGIN, UnattendedSettings().margin * self.budget)

    @property
    def invalid(self) -> list[Look]:
        """Looks at which the submission was not complete and valid."""
        return [look for look in self.looks if look.problem]

    def has_incident_in(self, stage: str) -> bool:
        """Whether some incident names this."""
        return any(stage in line for line in self.incidents)

    def complaints(self) -> list[str]:
        """Each promise that was not kept, in words."""
        first = self.looks[0].seconds if self.looks else float("inf")
        broken = {
            f"exit code {self.exit}": self.exit != 0,
            f"{self.kept:.1f} s of the budget were left over, less than {self.margin:.1f}": self.kept < self.margin,
            f"the first submission came after {first:.1f} s": first > self.due,
            f"not valid at {len(self.invalid)} looks: {self.invalid[:1]}": bool(self.invalid),
            f"{self.solved} solved, and {self.solved_then} before the fault": self.solved < self.solved_then
            and not self.passed_since,
            "the moment for the fault never came": not self.struck,
            f"{self.left} processes were left behind": self.left > 0,
            f"it does not say '{self.unfelt}'": bool(self.unfelt),
        }
        return [what for what, so in broken.items() if so]


def simulate(
    root: Path, budget: float, fault: Fault | None = None, backbone: Path | None = None, processes: int | None = None
) -> Outcome:
    """Lay out a scored run under a new folder, let `solve --recipe kaggle` work on it, inject the fault, and judge.

    What was said is kept in ROOT/said.txt, and the run's small files in ROOT/kept.
    """
    kaggle = lay_out(root, hidden_tasks(EVALUATION_TASKS), backbone)
    if fault and fault.before:
        fault.before(kaggle)
    outcome = Outcome(fault.name if fault else "undisturbed", budget, unfelt=fault.leaves if fault else "")
    with Sandbox(kaggle) as sandbox:
        run, out = kaggle.scratch / "run", kaggle.working / SUBMISSION
        folder = sandbox.outside(run)
        watch = Watch([out, folder / SUBMISSION], kaggle.tasks, learnable_tasks())
        words = solve_words(kaggle, budget, run, out) + (["--processes", str(processes)] if processes else [])
        process = sandbox.start(words, kaggle.environment(rerun=True), root / SAID)
        going = Going(psutil.Process(process.pid), folder, sandbox.outside(kaggle.scratch))
        follow(process, going, watch, outcome, fault)
        keep(folder, root / KEPT)
    judge(watch, outcome, root)
    return outcome


def simulate_notebook(root: Path, notebook: Path, bundle: Path, budget: float, rerun: bool) -> Outcome:
    """Lay out a commit run or the scored run under a new folder, with a bundle attached, and execute the notebook.

    Code comes from the bundle alone. The executed notebook is kept as ROOT/executed.ipynb. The whole notebook may take
    `SECONDS_AROUND` longer than the budget that it is given.
    """
    kaggle = lay_out(root, hidden_tasks(EVALUATION_TASKS) if rerun else (), bundle=bundle)
    name, allowed = "scored run" if rerun else "commit run", budget + SECONDS_AROUND
    outcome = Outcome(name, allowed, due=SECONDS_AROUND)
    watch = Watch([kaggle.working / SUBMISSION], kaggle.tasks, learnable_tasks() if rerun else (), outcome.due)
    knobs = {"budget": f"{budget:g}s", "settings": json.dumps(setting_texts())}
    with Sandbox(kaggle) as sandbox:
        scratch = sandbox.outside(kaggle.scratch)
        words = [str(RUNNER), str(notebook), str(root / "executed.ipynb")]
        process = sandbox.start(words, kaggle.environment(rerun, **knobs), root / SAID, checkout=False)
        follow(process, Going(psutil.Process(process.pid), scratch, scratch), watch, outcome, None)
        for file in list(scratch.rglob("incidents.json"))[:1]:
            keep(file.parent, root / KEPT)
    judge(watch, outcome, root)
    return outcome


def shipped_backbone() -> Path:
    """The backbone that a user finds in the repository."""
    found = sorted((CHECKOUT / "weights").rglob("checkpoint.json"))
    if not found:
        raise ValueError("there is no backbone under weights/: name one with --backbone")
    return found[0].parent


def solve_words(kaggle: Kaggle, budget: float, run: Path, out: Path) -> list[str]:
    """What Python is told: the command that the notebook gives, with settings for minutes."""
    words = ["-m", "pipeline", "solve", str(kaggle.challenges), "--recipe", "kaggle", "--budget", f"{budget:g}s"]
    words += ["--run-dir", str(run), "--out", str(out)]
    words += ["--checkpoint", str(kaggle.backbone)] if kaggle.backbone.exists() else []
    return [*words, *(f"--set={text}" for text in setting_texts())]


def setting_texts() -> list[str]:
    """SETTINGS as they are written on a command line."""
    return [f"{name}={json.dumps(value)}" for name, value in SETTINGS.items()]


def follow(process: subprocess.Popen[bytes], going: Going, watch: Watch, outcome: Outcome, fault: Fault | None) -> None:
    """Look at the submission until the process ends, and inject the fault at its moment."""
    begun, family = time.monotonic(), set[psutil.Process]()
    struck = fault is None or fault.strike is None
    while process.poll() is None and (now := time.monotonic() - begun) < outcome.budget + OVERTIME:
        watch.look(now)
        family |= set(going.descendants())
        if not struck and fault and fault.strike and fault.moment(going):
            outcome.fault_at, outcome.solved_then = now, watch.last.solved
            with suppress(psutil.NoSuchProcess):  # it ended just now: another moment will come
                fault.strike(going)
                struck = True
        time.sleep(POLL_INTERVAL)
    outcome.used, outcome.exit, outcome.struck = time.monotonic() - begun, process.poll(), struck
    watch.look(outcome.used)
    outcome.left = end_family(process, family)


def end_family(process: subprocess.Popen[bytes], family: set[psutil.Process]) -> int:
    """End the process and all that it started; how many were still running without it."""
    left = 0
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for each in family:
        with suppress(psutil.NoSuchProcess):
            left += each.status() != psutil.STATUS_ZOMBIE
            each.kill()
    return left


def keep(run: Path, kept: Path) -> None:
    """Keep a run's small files: its disk goes away."""
    kept.mkdir()
    for file in run.glob("*.*"):
        if file.is_file():
            shutil.copyfile(file, kept / file.name)


def judge(watch: Watch, outcome: Outcome, root: Path) -> None:
    """Put into the outcome what was seen, and the incidents that the run lists, paths being those under ROOT."""
    outcome.looks, outcome.answered, outcome.solved = watch.looks, watch.last.answered, watch.last.solved
    outcome.inputs, outcome.judged = (sum(len(task.tests) for task in tasks) for tasks in (watch.tasks, watch.judged))
    file = root / KEPT / "incidents.json"
    if file.exists():
        outcome.incidents = json.loads(file.read_text(encoding="utf-8").replace(str(root), "ROOT"))
    said = (root / SAID).read_text(encoding="utf-8")
    outcome.asked_last = "answered (last pass)" in said
    outcome.passed_since = outcome.asked_last and not outcome.has_incident_in("last pass")
    if outcome.unfelt in said:
        outcome.unfelt = ""
