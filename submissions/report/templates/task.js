// Builds the page of a task: demonstrations, test inputs with attempts and candidates, and the recursion step by step.
// The input is a view made by `views.py`, the output a list of elements. The outcomes' `labels` are in `report.js`.

const STEP_MILLISECONDS = 450;
const phone = matchMedia("(max-width: 700px)");

function makeTask(view) {
  const cell = cellFor(view.demonstrations.flat(), phone.matches ? 132 : 196, 4);
  const pairs = view.demonstrations.map(([input, output]) =>
    make(
      "div",
      { class: "pair" },
      makeGrid(input, cell, { label: "input" }),
      make("span", { class: "arrow", "aria-hidden": "true" }, "→"),
      makeGrid(output, cell, { label: "output" }),
    ),
  );
  return [
    make("section", { class: "demonstrations" }, make("h2", {}, "Demonstrations"), make("div", { class: "pairs" }, pairs)),
    ...view.tests.map((test, place) => makeTest(test, view.tests.length > 1 ? `Test ${place + 1} of ${view.tests.length}` : "Test")),
  ];
}

function makeTest(test, name) {
  const title = make("h2", {}, name, make("span", { class: `outcome ${test.outcome}` }, makeSign(test.outcome), labels[test.outcome]));
  const grids = [test.input, test.truth, ...test.attempts.map(({ grid }) => grid)].filter(Boolean);
  const cell = cellFor(grids, phone.matches ? 150 : 212, 4);
  const attempts = test.attempts.map((attempt, place) =>
    makeFigure(`Attempt ${place + 1}`, attempt.grid, cell, { remark: attempt.remark, right: attempt.right, truth: test.truth }),
  );
  const figures = [makeFigure("Test input", test.input, cell), ...attempts, test.truth && makeFigure("Truth", test.truth, cell)];
  return make(
    "section",
    { class: "test" },
    title,
    make("div", { class: "sides" }, make("div", { class: "figures-row" }, figures), test.candidates.length > 0 && makeCandidates(test)),
    test.recursion && makeRecursion(test),
  );
}

function makeFigure(name, grid, cell, { remark = "", right = false, truth = null } = {}) {
  return make(
    "figure",
    { class: right ? "right" : "" },
    grid ? makeGrid(grid, cell, { marks: findWrong(grid, truth), label: name.toLowerCase() }) : make("div", { class: "blank" }, "?"),
    make("figcaption", {}, make("b", {}, name), make("i", {}, right ? `✓ ${remark}` : remark)),
  );
}

function makeCandidates(test) {
  const heads = [
    ["", "rank"],
    ["", "grid"],
    [`${test.votes.toLocaleString("en")} votes`, "predictions of this grid"],
    ["augm.", "different augmentations it was predicted under"],
    ["halt", "mean halting probability"],
    ["log p", "mean log-probability per cell"],
  ];
  const cell = cellFor(test.candidates.map(({ grid }) => grid), phone.matches ? 62 : 92);
  const [count, all] = [test.candidates.length, test.candidates_in_all];
  const part = all > count ? `${count} of ${all.toLocaleString("en")}` : "all";
  return make(
    "table",
    { class: "candidates" },
    make("caption", {}, make("b", {}, "Candidates"), ` ${part} different grids voted for; dots mark wrong cells`),
    make("thead", {}, make("tr", {}, heads.map(([name, title]) => make("th", { scope: "col", title }, name)))),
    make("tbody", {}, test.candidates.map((candidate) => makeCandidate(candidate, test, cell))),
  );
}

function makeCandidate(candidate, test, cell) {
  const { place, grid, right, share } = candidate;
  const bar = make("span", { class: "meter" }, make("i", { style: `width:${(100 * share).toFixed(1)}%` }));
  return make(
    "tr",
    { class: right ? "right" : "" },
    make("th", { scope: "row" }, right ? "✓ " : "", place, right && make("span", { class: "unseen" }, " right")),
    make("td", {}, makeGrid(grid, cell, { marks: findWrong(grid, test.truth), label: `candidate ${place}` })),
    make("td", {}, bar, `${candidate.count.toLocaleString("en")} · ${percent(share)}`),
    make("td", {}, candidate.augmentations.toLocaleString("en")),
    make("td", {}, candidate.confidence.toFixed(2)),
    make("td", {}, candidate.log_prob === null ? "–" : candidate.log_prob.toFixed(2)),
  );
}

const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`;

// The recursion of a test input

let playing = null;

function stop() {
  clearInterval(playing?.timer);
  playing?.button.setAttribute("aria-pressed", false);
  playing = null;
}

function makeRecursion({ recursion, truth }) {
  const steps = recursion.answer.length;
  const errors = truth && recursion.answer.map((frame) => findWrongOnCanvas(frame, truth));
  const cell = cellFor([recursion.answer[0]], phone.matches ? 160 : 232, 4);
  const latents = latentsOf(recursion);
  const large = latents.map((name) => makeGrid(recursion[name][steps - 1], cell, { label: `${name} canvas` }));
  const slider = make("input", { type: "range", min: 1, max: steps, "aria-label": "Supervision step", oninput: () => (stop(), goTo(+slider.value)) });
  const button = make("button", { type: "button", class: "play", "aria-pressed": "false", onclick: play }, "Play");
  const facts = make("p", { class: "facts" });
  const strip = makeStrip(recursion, errors, (step) => (stop(), goTo(step)));
  const scroller = make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "All supervision steps" }, strip);

  function goTo(step) {
    if (step < 1 || step > steps) return;
    slider.value = step;
    latents.forEach((name, place) => {
      const marks = name === "answer" ? errors?.[step - 1].marks : undefined;
      large[place].picture = { rows: recursion[name][step - 1].split("/"), cell, marks };
    });
    large.filter((canvas) => canvas.matches(".drawn")).forEach(drawGrid);
    const words = describeStep(recursion, errors, step);
    slider.setAttribute("aria-valuetext", words[0]);
    facts.replaceChildren(make("b", {}, words[0]), ...words.slice(1).map((word) => make("span", {}, word)));
    for (const row of strip.rows) [...row.cells].forEach((part, place) => part.classList.toggle("now", place === step));
    scroller.scrollLeft = strip.rows[0].cells[step].offsetLeft - scroller.clientWidth / 2;
  }

  function play() {
    if (playing?.button === button) return stop();
    stop();
    if (+slider.value === steps) goTo(1);
    const forward = () => (+slider.value < steps ? goTo(+slider.value + 1) : stop());
    playing = { button, timer: setInterval(forward, STEP_MILLISECONDS) };
    button.setAttribute("aria-pressed", true);
  }

  goTo(steps);
  const node = make(
    "section",
    { class: "recursion", "aria-label": "Recursion" },
    make("h3", {}, "Recursion"),
    make(
      "p",
      { class: "soft" },
      latents.length > 1
        ? `The two latents after each of ${steps} supervision steps, read by the same output head: the answer, which becomes the prediction, and the reasoning. `
        : `The latent after each of ${steps} supervision steps, read by the output head: the answer, which becomes the prediction. `,
      "Hatched cells are end marks, blank ones empty.",
    ),
    make(
      "div",
      { class: "player" },
      large.map((canvas, place) => make("figure", {}, canvas, make("figcaption", {}, make("b", {}, { answer: "Answer", reasoning: "Reasoning" }[latents[place]])))),
      make("div", { class: "control" }, facts, slider, button),
    ),
    scroller,
  );
  return Object.assign(node, { move: (steps) => (stop(), goTo(+slider.value + steps)), play });
}

/** Returns the names of the latents that the model has. */
function latentsOf(recursion) {
  return ["answer", "reasoning"].filter((name) => recursion[name].length);
}

function describeStep(recursion, errors, step) {
  const format = (value) => value?.toFixed(2) ?? "unknown";
  const span = (values) =>
    values.length > 1
      ? `${format(values[0])} of its length in the first and ${format(values.at(-1))} in the last of ${values.length} updates`
      : `${format(values[0])} of its length`;
  return [
    `Supervision step ${step} of ${recursion.answer.length}`,
    `halting probability ${format(recursion.halting[step - 1])}`,
    ...latentsOf(recursion).map((name) => `${name} moved by ${span(recursion[`${name}_moved`][step - 1])}`),
    errors ? `${errors[step - 1].wrong} of ${errors[step - 1].of} cells of the answer wrong` : "",
  ].filter(Boolean);
}

/** Makes a table with a column per supervision step: canvases, latent movement, halting probability, wrong cells. */
function makeStrip(recursion, errors, choose) {
  const cell = cellFor([recursion.answer[0]], 62);
  const row = (name, values, show) => make("tr", {}, make("th", { scope: "row" }, name), values.map((value, place) => make("td", {}, show(value, place))));
  const frames = (name) => row(name, recursion[name], (frame, place) => makeGrid(frame, cell, { label: `${name} after step ${place + 1}` }));
  const bars = (name, values, top) =>
    row(name, values, (value) => {
      const updates = [value].flat();
      return [make("span", { class: "columns" }, updates.map((update) => makeColumn(update / top))), updates.at(-1)?.toFixed(2) ?? "–"];
    });
  const furthest = (values) => Math.max(...values.flat(), 1e-9);
  const buttons = recursion.answer.map((_, place) =>
    make("th", { scope: "col" }, make("button", { type: "button", "aria-label": `Show supervision step ${place + 1}`, onclick: () => choose(place + 1) }, place + 1)),
  );
  return make(
    "table",
    { class: "strip" },
    make("thead", {}, make("tr", {}, make("th", { scope: "row" }, "step"), buttons)),
    make(
      "tbody",
      {},
      latentsOf(recursion).map(frames),
      latentsOf(recursion).map((name) => bars(`${name} moved`, recursion[`${name}_moved`], furthest(recursion[`${name}_moved`]))),
      bars("halting", recursion.halting, 1),
      errors && row("wrong cells", errors, ({ wrong }) => wrong),
    ),
  );
}

function makeColumn(share) {
  return make("span", { class: "column" }, make("i", { style: `height:${(100 * share).toFixed(1)}%` }));
}
