// The report's overview ("wall") of task tiles, the keys, and the task page that replaces the overview. The address
// holds the state: #task=ID and the filter and order of the overview, so that links and the back button work.
"use strict";

const { labels, tiles } = JSON.parse(document.getElementById("tiles").textContent);
const numbers = new Map(tiles.map((tile, number) => [tile.id, number]));
const at = (id) => document.getElementById(id);
const SORTS = {
  "": () => 0,
  outcome: (a, b) => Object.keys(labels).indexOf(a.outcome) - Object.keys(labels).indexOf(b.outcome),
  share: (a, b) => b.share - a.share,
  confidence: (a, b) => b.confidence - a.confidence,
  size: (a, b) => a.size - b.size,
  candidates: (a, b) => b.candidates - a.candidates,
};

// The state in the address

function read() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const number = numbers.get(parameters.get("task"));
  const [show, find, sort] = ["show", "find", "sort"].map((name) => parameters.get(name) ?? "");
  return { number, show: show in labels ? show : "", find, sort: sort in SORTS ? sort : "", turned: parameters.has("turned") };
}

/** Returns the address of the current state with `change` applied. */
function address(change) {
  const { number, ...rest } = { ...read(), ...change };
  const words = { task: tiles[number]?.id, ...rest, turned: rest.turned ? "1" : "" };
  return `#${new URLSearchParams(Object.entries(words).filter(([name, value]) => value || (name === "task" && number !== undefined)))}`;
}

/** Changes the state; a change of filter or order replaces the history entry, so that "back" does not undo it. */
function go(change, how = "pushState") {
  history[how](null, "", address(change));
  show();
}

/** Returns the numbers of the tasks that match the filter, in the chosen order. */
function listed() {
  const { show: outcome, find, sort, turned } = read();
  const query = find.trim().toLowerCase();
  const matches = tiles.map((_, number) => number).filter((number) => {
    const tile = tiles[number];
    return (!outcome || tile.outcome === outcome) && tile.id.toLowerCase().includes(query);
  });
  matches.sort((a, b) => SORTS[sort](tiles[a], tiles[b]) || (tiles[a].id < tiles[b].id ? -1 : 1));
  return turned ? matches.reverse() : matches;
}

let current; // undefined at the start, then { number }; the number is undefined for the overview
let wallScroll = 0;

function show() {
  const { number } = read();
  if (number === current?.number && current) return showWall();
  const before = current?.number;
  current = { number };
  if (before === undefined) wallScroll = scrollY;
  at("overview").hidden = number !== undefined;
  at("task").hidden = number === undefined;
  if (number === undefined) closeTask(before);
  else openTask(number);
}

// The wall

const MOST_THUMBS = 9; // a Sudoku source has hundreds of tests

function makeTile(tile, number) {
  const words = tile.outputs.length > 1 ? `${count(tile, "solved")} of ${tile.outputs.length} outputs` : labels[tile.outcome];
  const space = tile.outputs.length > 1 ? (tile.outputs.length > 4 ? 18 : 30) : 62;
  const drawn = tile.outputs.length > MOST_THUMBS ? MOST_THUMBS - 1 : tile.outputs.length;
  const thumbs = tile.outputs.slice(0, drawn).map((output) => makeThumb(output, space));
  if (drawn < tile.outputs.length) thumbs.push(make("span", { class: "more" }, `+${tile.outputs.length - drawn}`));
  return make(
    "li",
    {},
    make(
      "a",
      { class: `tile ${tile.outcome}`, href: address({ number }), tabindex: -1, title: `${tile.id}: ${words}`, "data-number": number },
      make("span", { class: "thumbs" }, thumbs),
      make("span", { class: "name" }, makeSign(tile.outcome), make("span", { class: "id" }, tile.id), make("span", { class: "unseen" }, words)),
    ),
  );
}

function count(tile, outcome) {
  return tile.outputs.filter((output) => output.outcome === outcome).length;
}

function makeThumb({ outcome, grid }, space) {
  const thumb = grid ? makeGrid(grid, cellFor([grid], space, 1)) : make("span", { class: "none" }, "–");
  thumb.classList.add(outcome);
  return thumb;
}

const nodes = tiles.map(makeTile);

function showWall() {
  const { number, show: outcome, find, sort, turned } = read();
  if (number !== undefined) return;
  const matches = listed();
  at("wall").replaceChildren(...matches.map((number) => nodes[number]));
  at("count").textContent = matches.length === tiles.length ? `${tiles.length} tasks` : `${matches.length} of ${tiles.length} tasks`;
  for (const radio of document.getElementsByName("show")) radio.checked = radio.value === outcome;
  if (at("find").value !== find) at("find").value = find;
  at("sort").value = sort;
  at("turned").setAttribute("aria-pressed", turned);
  for (const number of matches) link(number).href = address({ number });
  makeReachable(link(matches[0]));
}

const link = (number) => nodes[number]?.firstChild;

/** Makes one tile the only one that Tab reaches; the keys move to the others. */
function makeReachable(tile) {
  at("wall").querySelector("a[tabindex='0']")?.setAttribute("tabindex", -1);
  tile?.setAttribute("tabindex", 0);
}

/** Moves the focus by a number of tiles (`steps`) and of rows. */
function moveOnWall(steps, rows) {
  const all = [...at("wall").querySelectorAll("a")];
  const place = all.indexOf(document.activeElement);
  const columns = all.filter((tile) => tile.offsetTop === all[0].offsetTop).length;
  const next = place < 0 ? 0 : Math.min(Math.max(place + steps + rows * columns, 0), all.length - 1);
  makeReachable(all[next]);
  all[next]?.focus();
}

// The page of a task

async function openTask(number) {
  stop();
  const page = at("task");
  page.setAttribute("aria-busy", "true");
  const content = await loadTask(number).then(makeTask, (error) => [make("p", { class: "remark marked" }, error.message)]);
  if (read().number !== number) return;
  page.replaceChildren(makeBar(number), ...content);
  page.removeAttribute("aria-busy");
  scrollTo({ top: 0, behavior: "instant" });
  page.querySelector("h1").focus({ preventScroll: true });
}

function closeTask(before) {
  stop();
  at("task").replaceChildren();
  showWall();
  scrollTo({ top: wallScroll, behavior: "instant" });
  if (before !== undefined && link(before).isConnected) {
    makeReachable(link(before));
    link(before).focus();
  }
}

function moveOn(steps) {
  const all = listed();
  const next = all[all.indexOf(read().number) + steps];
  if (next !== undefined) go({ number: next }, "replaceState");
}

function makeBar(number) {
  const { id, outcome } = tiles[number];
  const all = listed();
  const place = all.indexOf(number);
  const step = (steps, words, sign) =>
    make(
      "button",
      { type: "button", "aria-label": words, title: words, onclick: () => moveOn(steps), disabled: all[place + steps] === undefined },
      sign,
    );
  return make(
    "div",
    { class: "bar" },
    make("button", { type: "button", class: "back", onclick: () => go({ number: undefined }) }, "← All tasks"),
    make("h1", { class: "id", tabindex: -1 }, id),
    make("span", { class: `outcome ${outcome}` }, makeSign(outcome), labels[outcome]),
    make(
      "span",
      { class: "paging" },
      make("span", { class: "soft" }, `${place + 1} of ${all.length}`),
      step(-1, "Previous task (k)", "‹"),
      step(1, "Next task (j)", "›"),
    ),
  );
}

// Keys, buttons and the initial state

const onTile = () => document.activeElement.matches(".tile");
const recursion = () => document.activeElement.closest(".recursion") ?? document.querySelector(".recursion");
const EVERYWHERE = { p: () => choose("palette"), d: () => choose("theme"), "?": () => at("help").showModal() };
const ON_WALL = {
  j: () => moveOnWall(1, 0),
  k: () => moveOnWall(-1, 0),
  ArrowRight: () => onTile() && (moveOnWall(1, 0), true),
  ArrowLeft: () => onTile() && (moveOnWall(-1, 0), true),
  ArrowDown: () => onTile() && (moveOnWall(0, 1), true),
  ArrowUp: () => onTile() && (moveOnWall(0, -1), true),
  "/": () => at("find").select(),
};
const ON_TASK = {
  j: () => moveOn(1),
  k: () => moveOn(-1),
  ArrowRight: () => moveOn(1),
  ArrowLeft: () => moveOn(-1),
  Escape: () => go({ number: undefined }),
  "/": () => (go({ number: undefined }), at("find").select()),
  ".": () => recursion()?.move(1),
  ",": () => recursion()?.move(-1),
  " ": () => (recursion() ? (recursion().play(), true) : false),
};

function press(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  if (target.matches("input[type=search], select")) return key === "Enter" && target.matches("input") ? moveOnWall(0, 0) : undefined;
  const own = { INPUT: /^Arrow| /, BUTTON: /^ $/, DIV: /^Arrow/ }[target.tagName];
  const act = { ...EVERYWHERE, ...(read().number === undefined ? ON_WALL : ON_TASK) }[key];
  if (act && !own?.test(key) && act() !== false) event.preventDefault();
}

/** Switches a setting to its next value and renames its button. */
function choose(name) {
  turn(name);
  nameButtons();
}

function nameButtons() {
  at("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[setting("theme")];
  at("theme").setAttribute("aria-label", `Theme: ${setting("theme")}`);
  at("palette").textContent = { arc: "ARC colours", safe: "Colour-blind safe" }[setting("palette")];
}

for (const name of ["theme", "palette"]) at(name).addEventListener("click", () => choose(name));
at("ask").addEventListener("click", () => at("help").showModal());
at("find").addEventListener("input", (event) => go({ find: event.target.value }, "replaceState"));
at("sort").addEventListener("change", (event) => go({ sort: event.target.value }, "replaceState"));
at("turned").addEventListener("click", () => go({ turned: !read().turned }, "replaceState"));
at("controls").addEventListener("change", ({ target }) => target.name === "show" && go({ show: target.value }, "replaceState"));
at("wall").addEventListener("click", (event) => {
  const tile = event.target.closest("a");
  if (!tile || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ number: +tile.dataset.number });
});
addEventListener("keydown", press);
addEventListener("popstate", show);
phone.addEventListener("change", () => read().number !== undefined && openTask(read().number));
nameButtons();
at("tools").hidden = at("controls").hidden = false;
show();
