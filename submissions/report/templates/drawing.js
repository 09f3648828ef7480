// Shared parts of the report's overview and task pages: settings, elements, grids on canvases, and the tasks' blobs.
// A grid is text with one letter per cell and rows separated by "/": digits are colours, "." is empty, "|" an end mark.
"use strict";

const SETTINGS = { theme: ["auto", "light", "dark"], palette: ["arc", "safe"] };
const LINED_CELL = 6;
const LARGE_CELL = 12;

/** Returns a stored setting, or null: browsers may refuse local storage to a page opened from a file. */
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
    // Without local storage the setting lasts until the page is closed.
  }
}

function setting(name) {
  return document.documentElement.dataset[name] ?? SETTINGS[name][0];
}

/** Switches a setting to its next value. */
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

/** Makes an element; attributes that begin with "on" are listeners, false and undefined ones are omitted. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Makes the sign of an outcome, which differs from others by its shape, not only by its colour. */
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
 * Makes a canvas that shows a grid; it is drawn when it comes near the visible part of the page.
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

/** Returns the largest integer cell size, within limits, so that the grids' longest side fits `space` CSS pixels. */
function cellFor(texts, space, least = 2, most = 24) {
  const sides = texts.map((text) => Math.max(text.split("/").length, text.indexOf("/") < 0 ? text.length : text.indexOf("/")));
  return Math.min(Math.max(Math.floor(space / Math.max(...sides)), least), most);
}

/** Returns which cells differ from the truth; null if there is no truth or its shape is different. */
function findWrong(text, truth) {
  if (!truth) return null;
  const [rows, truthRows] = [text.split("/"), truth.split("/")];
  if (rows.length !== truthRows.length || rows[0].length !== truthRows[0].length) return null;
  return rows.map((row, y) => [...row].map((letter, x) => letter !== truthRows[y][x]));
}

/**
 * Returns which cells of a canvas differ from the truth and its end marks, how many these are, and the number compared;
 * null without a truth. Cells beyond the end marks are not trained, so they are neither right nor wrong.
 */
function findWrongOnCanvas(text, truth) {
  if (!truth) return null;
  const [rows, truthRows] = [text.split("/"), truth.split("/")];
  const [height, width] = [truthRows.length, truthRows[0].length];
  const target = (y, x) => truthRows[y]?.[x] ?? ((y === height && x < width) || (x === width && y < height) ? "|" : undefined);
  const known = rows.map((row, y) => [...row].map((_, x) => target(y, x) !== undefined));
  const marks = rows.map((row, y) => [...row].map((letter, x) => known[y][x] && letter !== target(y, x)));
  const sum = (flags) => flags.flat().filter(Boolean).length;
  // Cells of the truth outside the canvas cannot be predicted, so they count as wrong.
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

/** Redraws all drawn canvases in the current colours. */
function redraw() {
  inks = null;
  for (const canvas of document.querySelectorAll("canvas.drawn")) drawGrid(canvas);
}

let inks = null;

/** Reads the current colours by letter, and those of lines and end marks. */
function readInks() {
  const style = getComputedStyle(document.documentElement);
  inks = Object.fromEntries([..."0123456789"].map((digit) => [digit, style.getPropertyValue(`--c${digit}`).trim()]));
  inks.line = style.getPropertyValue("--line").trim();
  inks["|"] = getComputedStyle(document.body).color;
}

function drawGrid(canvas) {
  if (!inks) readInks();
  const { rows, cell, marks } = canvas.picture;
  // In whole device pixels, so that cells have sharp edges and the same size.
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

/** Draws one rectangle for each run of equal cells; empty cells keep the background of the page. */
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

/** Draws a hatched cell. */
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

/** Draws a white dot with a black rim, which is visible on every colour. */
function drawMark(pen, left, top, side) {
  for (const [colour, radius] of [["#000", 0.21], ["#fff", 0.13]]) {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(left + (side + 1) / 2, top + (side + 1) / 2, Math.max(side, 9) * radius, 0, 2 * Math.PI);
    pen.fill();
  }
}

const waiting = new Map();

/** Receives the blob of a task; called by the scripts of a report in a folder. */
function receiveBlob(number, blob) {
  waiting.get(number)?.(blob);
}

/** Returns the blob of a task, from this page or else from a script: a page opened from a file cannot use fetch. */
function loadBlob(number) {
  const inline = document.getElementById(`blob-${number}`);
  if (inline) return Promise.resolve(inline.textContent);
  const src = `tasks/${number}.js`;
  return new Promise((done, fail) => {
    waiting.set(number, done);
    document.head.append(make("script", { src, onerror: () => fail(new Error(`${src} is missing from the folder of this page`)) }));
  });
}

/** Returns the view of a task. */
async function loadTask(number) {
  const bytes = Uint8Array.from(atob(await loadBlob(number)), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).json();
}

applySettings();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
