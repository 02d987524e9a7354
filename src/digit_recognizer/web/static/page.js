// Draw with signature_pad, read the drawing while a stroke is drawn, and show the digits. backend.js is what reads.
import SignaturePad from "./vendor/signature_pad.min.js";
import * as backend from "./backend.js";
import { explain } from "./explain.js";

const SAVED = { width: 640, height: 480 }; // size of a drawing in pixels, the same on every screen
const READ = { width: 320, height: 240 }; // and while it is drawn, which is read in half the time
const SIDE = 28; // pixels of a digit
const find = (id) => document.getElementById(id);
const isEmpty = () => !file && pad.isEmpty();
const percent = (value) => `${(100 * value).toFixed(1)}%`;
const canvas = find("pad");
const pad = new SignaturePad(canvas, { backgroundColor: "#fff", penColor: "#16181f", minDistance: 2 });

let file = null; // the image shown instead of the drawing
let version = 0; // incremented by every change of the drawing
let sent = 0; // version of the latest request
let busy = false; // one request at a time
let cleared = null; // strokes removed by the last Clear
let count = 0; // number of digits found
let chosen = -1; // index of the digit whose probabilities are shown
let shown = null; // that digit
let paperWidth = 0; // CSS pixels

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const bars = [..."0123456789", "∅"].map((label) => {
  const fill = element("div", { className: "fill" });
  const value = element("span", { textContent: "–" });
  const track = element("div", { className: "track", ariaHidden: "true" }, fill);
  const row = element("li", {}, element("span", { textContent: label }), track, value);
  if (label === "∅") row.title = "No digit";
  find("bars").append(row);
  return { row, fill, value };
});

const labels = Array.from({ length: 10 }, (_, digit) => {
  const button = element("button", { type: "button", textContent: digit, ariaLabel: `Save as ${digit}` });
  button.addEventListener("click", () => saveDigit(digit));
  find("labels").querySelector("div").append(button);
  return button;
});

function say(line, bad = false) {
  find("status").textContent = line;
  find("status").classList.toggle("bad", bad);
}

// Requests

function changed() {
  version += 1;
  find("paper").classList.toggle("used", !isEmpty());
  find("save").disabled = isEmpty();
  find("undo").disabled = isEmpty() && !cleared;
  if (isEmpty()) show({ text: "", digits: [] });
  else request();
  find("result").ariaBusy = String(!isEmpty() && busy);
}

function scale({ width, height }) {
  const context = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, width, height);
  return context;
}

function content() {
  if (file) return Promise.resolve(file);
  return new Promise((done) => scale(SAVED).canvas.toBlob(done, "image/png"));
}

function readDrawing() {
  const { data, width } = scale(READ).getImageData(0, 0, READ.width, READ.height);
  const gray = new Uint8Array(data.length / 4);
  for (let at = 0, from = 0; at < gray.length; at += 1, from += 4) {
    gray[at] = Math.round(0.299 * data[from] + 0.587 * data[from + 1] + 0.114 * data[from + 2]);
  }
  return backend.readDrawing(gray, width);
}

async function request() {
  if (busy || sent === version || isEmpty()) return;
  const start = performance.now();
  const picture = file;
  busy = true;
  sent = version;
  try {
    const result = await (picture ? backend.readPicture(picture) : readDrawing());
    if (picture ? picture === file : !file && !pad.isEmpty()) {
      if (picture) say("");
      show(result);
      performance.measure("answer", { start });
    }
  } catch (error) {
    if (picture && picture === file) leavePicture();
    say(error.message, true);
  }
  busy = false;
  find("result").ariaBusy = String(!isEmpty() && sent !== version);
  request(); // what was drawn in the meantime
}

async function save(label) {
  if (isEmpty()) return;
  try {
    say(`Saved as ${await backend.save(label, await content())} with the label ${label}.`);
  } catch (error) {
    say(error.message, true);
  }
}

// The buttons and keys label one digit; a drawing of several needs all of them.
async function saveDigit(digit) {
  while (find("result").ariaBusy === "true") await new Promise((done) => setTimeout(done, 50)); // count is an older one
  if (count < 2) return save(String(digit));
  find("number").focus();
  return say(`found ${count} digits; enter the label of all of them`, true);
}

// Results

function show(result) {
  const { text, digits } = result;
  mark(result);
  const answer = find("answer");
  answer.textContent = text;
  answer.className = text.length > 24 ? "longest" : text.length > 5 ? "long" : "";
  answer.classList.toggle("unsure", digits.some((digit) => !digit.confident));
  find("digits").hidden = digits.length < 2;
  find("digits").replaceChildren(...digits.map((digit, index) => {
    const image = element("canvas", { width: SIDE, height: SIDE, ariaHidden: "true" });
    paint(image, digit.pixels);
    const button = element("button", { type: "button" }, image, String(digit.digit));
    button.ariaLabel = `Digit ${index + 1}: ${digit.digit}, ${percent(digit.probabilities[digit.digit])}`;
    button.addEventListener("click", () => detail(digits, index));
    return element("li", {}, button);
  }));
  if (digits.length !== count) chosen = digits.length - 1;
  count = digits.length;
  for (const button of labels) button.disabled = isEmpty() || count > 1;
  detail(digits, chosen);
  let line = isEmpty() ? "Draw a digit to start" : digits.length ? "" : "No digit found";
  const best = digits.length === 1 ? Math.max(...digits[0].probabilities) : 0;
  if (best) line = best >= 0.9995 ? "over 99.9% probability" : `${percent(best)} probability`;
  const doubt = digits.find((digit) => !digit.confident);
  if (doubt) {
    const order = [...doubt.probabilities.keys()].sort((a, b) => doubt.probabilities[b] - doubt.probabilities[a]);
    line = `Uncertain: ${order[0]} or ${order[1]}?`;
  }
  find("message").textContent = line;
  clearTimeout(show.timer);
  show.timer = setTimeout(() => { find("spoken").textContent = isEmpty() ? "" : `${text} ${line}`.trim(); }, 600);
}

function detail(digits, index) {
  chosen = index;
  const digit = digits[chosen];
  const none = digit ? Math.max(0, 1 - digit.probabilities.reduce((sum, one) => sum + one)) : 0;
  for (const [label, { row, fill, value }] of bars.entries()) {
    const probability = digit ? digit.probabilities[label] ?? none : 0;
    row.classList.toggle("first", digit?.digit === label);
    fill.style.width = percent(probability);
    value.textContent = digit ? percent(probability) : "–";
  }
  paint(find("seen"), digit?.pixels);
  find("explain").disabled = !digit;
  shown = digit;
  explainShown();
  for (const [place, button] of find("digits").querySelectorAll("button").entries()) {
    button.ariaPressed = String(place === chosen);
  }
}

function paint(target, gray = new Uint8Array(SIDE ** 2), heat = null) {
  const image = new ImageData(SIDE, SIDE);
  for (const [cell, value] of gray.entries()) {
    const weight = heat?.[cell] ?? 0;
    const rest = value * (1 - Math.abs(weight));
    const colour = [value, 0.55 * value + 0.45 * rest, rest]; // orange
    image.data.set([...(weight < 0 ? colour.reverse() : colour), 255], 4 * cell); // blue
  }
  target.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
}

async function explainShown() {
  const digit = shown;
  find("why").textContent = "Network input, 28×28 pixels";
  if (find("explain").ariaPressed !== "true" || !digit) return;
  await new Promise((done) => setTimeout(done, 250)); // while the hand draws on, answers come first
  if (digit !== shown) return;
  try {
    const { heat, without } = await explain(digit.pixels, digit.digit, backend.classify);
    if (digit !== shown || find("explain").ariaPressed !== "true") return;
    paint(find("seen"), digit.pixels, heat);
    const same = "Removing any single part does not change the answer.";
    const otherwise = without === digit.digit ? same : `Without the brightest part it is a ${without}.`;
    find("why").textContent = `Orange speaks for ${digit.digit}, blue against it. ${otherwise}`;
  } catch (error) {
    say(error.message, true);
  }
}

function mark({ preview, width, height, text, digits }) {
  find("picture").toggleAttribute("hidden", !digits.length && !preview);
  if (!width) return;
  const side = Math.max(width, height);
  const marks = digits.flatMap(({ digit, box: [x, y, w, h] }) => {
    const size = Math.max(side / 28, Math.min(h / 3, side / (preview ? 12 : 20)));
    const above = y > size ? y - size / 5 : y + h + size;
    const place = { x, y: Math.min(above, height - size / 8), "font-size": size, "stroke-width": size / 6 };
    return [drawn("rect", { x, y, width: w, height: h }), drawn("text", place, String(digit))];
  });
  const picture = find("picture");
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("aria-label", digits.length ? `Picture with the digits ${text}` : "Picture without digits");
  picture.classList.toggle("drawn", !preview);
  picture.replaceChildren(...(preview ? [drawn("image", { href: preview, width, height })] : []), ...marks);
}

// Input

function openPicture(chosen) {
  if (!chosen) return;
  if (!backend.abilities.pictures) {
    say("this page reads what is drawn on it only; `make draw` and `make predict` read pictures", true);
    return;
  }
  file = chosen;
  say(`Reading ${chosen.name || "the picture"} …`);
  changed();
}

function leavePicture() {
  if (file) find("picture").toggleAttribute("hidden", true);
  file = null;
  changed();
}

function undo() {
  if (isEmpty() && cleared) pad.fromData(cleared);
  else if (!file) pad.fromData(pad.toData().slice(0, -1));
  if (pad.toData().length === 0) pad.clear();
  cleared = null;
  say("");
  leavePicture();
}

function clear() {
  if (!pad.isEmpty()) cleared = pad.toData();
  pad.clear();
  say("");
  leavePicture();
}

function setWidth() {
  const width = Number(find("width").value);
  Object.assign(pad, { minWidth: 0.46 * width, maxWidth: 0.52 * width, dotSize: 0.5 * width }); // half widths
}

function resize() {
  const width = canvas.offsetWidth;
  if (!width || width === paperWidth) return;
  const ratio = Math.min(2, Math.max(1, window.devicePixelRatio));
  const strokes = pad.toData();
  const factor = paperWidth ? width / paperWidth : 1;
  for (const { points } of strokes) for (const point of points) { point.x *= factor; point.y *= factor; }
  canvas.width = width * ratio;
  canvas.height = canvas.offsetHeight * ratio;
  canvas.getContext("2d").scale(ratio, ratio);
  paperWidth = width;
  pad.clear();
  pad.fromData(strokes);
}

function isLabelling() {
  return find("labels").contains(document.activeElement);
}

function pressed(event) {
  if (event.target === find("number")) return;
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1];
  const command = event.ctrlKey || event.metaKey;
  if (command && !event.shiftKey && event.key.toLowerCase() === "z") undo();
  else if (command || event.altKey) return;
  else if (event.key === "Escape" || event.key === "Delete") clear();
  else if (digit && backend.abilities.saving && (event.shiftKey || isLabelling())) saveDigit(digit);
  else return;
  event.preventDefault();
}

function received(event, transfer) {
  event.preventDefault();
  document.body.classList.remove("over");
  if (transfer.files.length) openPicture(transfer.files[0]);
  else say("expected a picture, received something else; drop or paste a picture file", true);
}

pad.addEventListener("beginStroke", () => { cleared = null; say(""); });
pad.addEventListener("afterUpdateStroke", changed);
pad.addEventListener("endStroke", changed);
find("undo").addEventListener("click", undo);
find("clear").addEventListener("click", clear);
find("width").addEventListener("input", setWidth);
find("file").addEventListener("change", ({ target }) => { openPicture(target.files[0]); target.value = ""; });
find("numbers").addEventListener("submit", (event) => { event.preventDefault(); save(find("number").value.trim()); });
document.addEventListener("keydown", pressed);
document.addEventListener("paste", (event) => received(event, event.clipboardData));
document.addEventListener("drop", (event) => received(event, event.dataTransfer));
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
find("explain").addEventListener("click", () => {
  find("explain").ariaPressed = String(find("explain").ariaPressed !== "true");
  paint(find("seen"), shown?.pixels);
  explainShown();
});
find("open").hidden = !backend.abilities.pictures;
find("labelling").hidden = !backend.abilities.saving;
if (!backend.abilities.pictures) find("hint").textContent = "Draw here";
backend.findName().then(
  (name) => { find("networks").textContent = `Read by ${name.replaceAll("`", "")}. ${backend.note}`.trim(); },
  () => say("the network could not be loaded; reload the page", true),
);
new ResizeObserver(resize).observe(canvas);
setWidth();
resize();
changed();
