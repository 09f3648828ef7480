// What the report's wall and task pages are made of: settings, elements, grids on canvases, and the tasks' blobs.
// A grid is text, a letter a cell and rows parted by "/": digits are colours, "." is empty, "|" an end mark.
"use strict";

const SETTINGS = { theme: ["auto", "light", "dark"], palette: ["arc", "safe"] };
const LINED_CELL = 6;
const LARGE_CELL = 12;

/** What was chosen before; browsers may refuse to remember anything of a file. */
function recall(name) {
  try {
    return localStorage.getItem(`arc-trm.${name}`);
  } catch {
    return null;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`arc-trm.${name}`, value);
  } catch {
    // Then it holds until the page is left.
  }
}

function setting(name) {
  return document.documentElement.dataset[name] ?? SETTINGS[name][0];
}

/** Choose the next value of a setting. */
function turn(name) {
  const values = SETTINGS[name];
  const next = values[(values.indexOf(setting(name)) + 1) % values.length];
  document.documentElement.dataset[name] = next;
  remember(name, next);
  redraw();
}

function applySettings() {
  for (const [name, values] of Object.entries(SETTINGS)) {
    const value = recall(name);
    document.documentElement.dataset[name] = values.includes(value) ? value : values[0];
  }
}

/** An element; attributes that begin with "on" are listeners, false and undefined ones are left out. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The sign of an outcome: told apart by its shape, not by its colour alone. */
function makeSign(outcome) {
  const space = document.querySelector("symbol").namespaceURI;
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS(space, tag));
  svg.setAttribute("class", `sign ${outcome}`);
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#sign-${outcome}`);
  svg.append(use);
  return svg;
}

/**
 * A canvas that shows a grid, drawn once it is near what is seen.
 * cell: side of a cell in CSS pixels, from `cellFor`; marks: rows of booleans, true where a dot marks a wrong cell.
 */
function makeGrid(text, cell, { marks = null, label = "grid" } = {}) {
  const rows = text.split("/");
  const sides = `${rows.length} ${rows.length === 1 ? "row" : "rows"}, ${rows[0].length} ${rows[0].length === 1 ? "column" : "columns"}`;
  const canvas = make("canvas", { class: "grid", role: "img", "aria-label": `${label} of ${sides}` });
  canvas.picture = { rows, cell, marks };
  canvas.style.width = `${rows[0].length * cell + 1}px`;
  canvas.style.height = `${rows.length * cell + 1}px`;
  nearby.observe(canvas);
  return canvas;
}

/** The largest whole cell that keeps the grids' longest side within `space` CSS pixels, within limits. */
function cellFor(texts, space, least = 2, most = 24) {
  const sides = texts.map((text) => Math.max(text.split("/").length, text.indexOf("/") < 0 ? text.length : text.indexOf("/")));
  return Math.min(Math.max(Math.floor(space / Math.max(...sides)), least), most);
}

/** Which cells differ from the truth; null where the two cannot be laid over each other. */
function findWrong(text, truth) {
  if (!truth) return null;
  const [rows, wanted] = [text.split("/"), truth.split("/")];
  if (rows.length !== wanted.length || rows[0].length !== wanted[0].length) return null;
  return rows.map((row, y) => [...row].map((letter, x) => letter !== wanted[y][x]));
}

/**
 * Which cells of a canvas differ from the truth and its end marks, and how many that are of how many; null without a
 * truth. What lies further out is not trained, so it is neither right nor wrong.
 */
function findWrongOnCanvas(text, truth) {
  if (!truth) return null;
  const [rows, wanted] = [text.split("/"), truth.split("/")];
  const [height, width] = [wanted.length, wanted[0].length];
  const meant = (y, x) => wanted[y]?.[x] ?? ((y === height && x < width) || (x === width && y < height) ? "|" : undefined);
  const known = rows.map((row, y) => [...row].map((_, x) => meant(y, x) !== undefined));
  const marks = rows.map((row, y) => [...row].map((letter, x) => known[y][x] && letter !== meant(y, x)));
  const sum = (flags) => flags.flat().filter(Boolean).length;
  const beyond = height * width - Math.min(height, rows.length) * Math.min(width, rows[0].length);
  return { marks, wrong: sum(marks) + beyond, of: sum(known) + beyond };
}

const nearby = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries.filter((entry) => entry.isIntersecting)) {
      nearby.unobserve(target);
      drawGrid(target);
    }
  },
  { rootMargin: "200px" },
);

/** Draw what was drawn again, in the colours of now. */
function redraw() {
  inks = null;
  for (const canvas of document.querySelectorAll("canvas.drawn")) drawGrid(canvas);
}

let inks = null;

/** The colours of now by letter, and those of lines and end marks. */
function readInks() {
  const style = getComputedStyle(document.documentElement);
  inks = Object.fromEntries([..."0123456789"].map((digit) => [digit, style.getPropertyValue(`--c${digit}`).trim()]));
  inks.line = style.getPropertyValue("--line").trim();
  inks["|"] = getComputedStyle(document.body).color;
}

function drawGrid(canvas) {
  if (!inks) readInks();
  const { rows, cell, marks } = canvas.picture;
  // Whole device pixels: cells have sharp edges and are all of one size.
  const side = Math.max(1, Math.round(cell * devicePixelRatio));
  canvas.width = rows[0].length * side + 1;
  canvas.height = rows.length * side + 1;
  const pen = canvas.getContext("2d");
  rows.forEach((row, place) => drawRow(pen, row, place * side, side));
  if (cell >= LINED_CELL) drawLines(pen, canvas.width, canvas.height, side);
  else frame(pen, canvas.width, canvas.height);
  marks?.forEach((row, y) => row.forEach((wrong, x) => wrong && drawMark(pen, x * side, y * side, side)));
  canvas.classList.add("drawn");
}

/** One rectangle for each run of equal cells; empty cells stay as the page is. */
function drawRow(pen, row, top, side) {
  for (let start = 0, end; start < row.length; start = end) {
    for (end = start + 1; row[end] === row[start]; ) end++;
    if (row[start] === "|") for (let x = start; x < end; x++) drawEndMark(pen, x * side, top, side);
    else if (row[start] !== ".") {
      pen.fillStyle = inks[row[start]];
      pen.fillRect(start * side, top, (end - start) * side + 1, side + 1);
    }
  }
}

/** Hatched. */
function drawEndMark(pen, left, top, side) {
  pen.save();
  pen.globalAlpha = 0.14;
  pen.fillStyle = pen.strokeStyle = inks["|"];
  pen.fillRect(left, top, side, side);
  pen.globalAlpha = 0.5;
  pen.beginPath();
  pen.moveTo(left + 1, top + side);
  pen.lineTo(left + side, top + 1);
  pen.stroke();
  pen.restore();
}

function drawLines(pen, width, height, side) {
  pen.save();
  pen.fillStyle = inks.line;
  pen.globalAlpha = side < LARGE_CELL * devicePixelRatio ? 0.45 : 1;
  for (let x = side; x < width - 1; x += side) pen.fillRect(x, 0, 1, height);
  for (let y = side; y < height - 1; y += side) pen.fillRect(0, y, width, 1);
  pen.restore();
  frame(pen, width, height);
}

function frame(pen, width, height) {
  pen.strokeStyle = inks.line;
  pen.strokeRect(0.5, 0.5, width - 1, height - 1);
}

/** A white dot with a black rim, to be seen on every colour. */
function drawMark(pen, left, top, side) {
  for (const [colour, radius] of [["#000", 0.21], ["#fff", 0.13]]) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(left + (side + 1) / 2, top + (side + 1) / 2, Math.max(side, 9) * radius, 0, 2 * Math.PI);
    pen.fill();
  }
}

const waiting = new Map();

/** Called by the scripts of the folder form. */
function receiveBlob(number, blob) {
  waiting.get(number)?.(blob);
}

/** The blob of a task: in this page, or else in a script beside it (a file may not fetch others). */
function loadBlob(number) {
  const inline = document.getElementById(`blob-${number}`);
  if (inline) return Promise.resolve(inline.textContent);
  const src = `tasks/${number}.js`;
  return new Promise((done, fail) => {
    waiting.set(number, done);
    document.head.append(make("script", { src, onerror: () => fail(new Error(`${src} is missing beside this page`)) }));
  });
}

/** Everything shown of a task. */
async function loadTask(number) {
  const bytes = Uint8Array.from(atob(await loadBlob(number)), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).json();
}

applySettings();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
