// The map at work: what the page holds of the cells, the legend, the pointer, keys, and the page's address.
// Comes after plot.js. All text goes into the page as text, never as HTML.

const NONE = 255; // number of the colour of cells without a value
const NEAR = 12; // pixels from a cell that still count as on it
const STEP = 60;
const byId = (id) => document.getElementById(id);
const [canvas, told, ring, legend, choice] = ["map", "told", "ring", "legend", "choice"].map(byId);

const cells = JSON.parse(byId("cells").textContent);
const plot = new Plot(canvas, shorts(cells.x), shorts(cells.y));
const colourings = cells.colourings.map(prepared);
if (!colourings.length) colourings.push(prepared({ key: "", name: "", words: ["cells"], tones: [0], codes: "" }));
let shown = colourings[0];
let waiting = false;

// --- values and their colours ----------------------------------------------------------------------------------------

// A colouring with a number from 0 to NONE for each cell (`index`), and which of them stand out (`loud`).
function prepared(one) {
  const loud = Array(NONE + 1).fill(true);
  if (one.words) return { ...one, loud, index: one.codes ? unpacked(one.codes) : new Uint8Array(cells.names.length) };
  const values = shorts(one.values);
  const index = Uint8Array.from(values, (value) => (value > FULL ? NONE : Math.min(value >> 8, NONE - 1)));
  return { ...one, loud, index, values };
}

function valueOf(one, cell) {
  if (one.words) return one.index[cell] === NONE ? "none" : one.words[one.index[cell]];
  if (one.index[cell] === NONE) return "none";
  return inWords(one.low + ((one.high - one.low) * one.values[cell]) / FULL);
}

const inWords = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });
const toneName = (tone) => (tone < 0 ? "--unknown" : `--c${tone}`);

// Colours by number, as the style sheet has them now: it differs in light and dark.
function table(one) {
  const colours = Array(NONE + 1).fill(parts(colour("--none")));
  if (one.words) {
    one.tones.forEach((tone, code) => (colours[code] = parts(colour(toneName(tone)))));
  } else {
    const stops = ["--low", "--mid", "--high"].map((name) => parts(colour(name)));
    for (let level = 0; level < NONE; level++) colours[level] = between(stops, level / (NONE - 1));
  }
  return colours.map(packed);
}

function between([low, middle, high], share) {
  const [from, to, part] = share < 0.5 ? [low, middle, share * 2] : [middle, high, share * 2 - 1];
  return from.map((value, place) => Math.round(value + (to[place] - value) * part));
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function draw() {
  waiting = false;
  const began = performance.now();
  const [ground, faint] = ["--card", "--faint"].map((name) => packed(parts(colour(name))));
  const drawn = plot.draw(shown.index, table(shown), shown.loud, ground, faint);
  Object.assign(canvas.dataset, { drawn, colour: shown.key, ms: Math.round(performance.now() - began) });
}

function redraw() {
  forget();
  if (!waiting) requestAnimationFrame(draw);
  waiting = true;
}

function show(key) {
  shown = colourings.find((one) => one.key === key) ?? colourings[0];
  choice.value = shown.key;
  legend.replaceChildren(...(shown.words ? wordsLegend(shown) : numbersLegend(shown)));
  redraw();
}

// --- legend ----------------------------------------------------------------------------------------------------------

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function swatch(tone) {
  const made = element("span", "", "swatch");
  made.style.background = `var(${tone})`;
  return made;
}

// A button for each word: pressed ones stand out alone.
function wordsLegend(one) {
  const alone = new Set();
  const buttons = one.words.map((word, code) => {
    const button = element("button");
    button.append(swatch(toneName(one.tones[code])), element("span", word, "word"), element("span", one.counts?.[code].toLocaleString("en"), "count"));
    button.title = word;
    button.onclick = () => press(alone.has(code) ? alone.delete(code) : alone.add(code));
    return button;
  });
  const all = element("button", "Show all", "all");
  all.onclick = () => press(alone.clear());
  function press() {
    one.loud.forEach((_, code) => (one.loud[code] = alone.size === 0 || alone.has(code)));
    buttons.forEach((button, code) => button.setAttribute("aria-pressed", alone.has(code)));
    all.hidden = alone.size === 0;
    redraw();
  }
  press();
  const none = one.without ? [element("p", `${one.without.toLocaleString("en")} cells without a value`, "note")] : [];
  const repeat = Math.max(...one.tones) < one.tones.filter((tone) => tone >= 0).length - 1;
  const note = repeat ? [element("p", "Colours repeat: press a name to see its cells alone.", "note")] : [];
  return [...note, ...buttons, ...none, all];
}

function numbersLegend(one) {
  const ends = element("div", "", "ends");
  ends.append(element("span", inWords(one.low)), element("span", inWords(one.high)));
  const none = one.index.includes(NONE) ? [element("p", "Grey: cells without a value.", "note")] : [];
  return [element("div", "", "scale"), ends, ...none];
}

// --- pointer, keys and address ---------------------------------------------------------------------------------------

const fingers = new Map();
let moved = 0;

const placeOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function forget() {
  told.hidden = ring.hidden = true;
}

// Tell of the cell at a place, or of none.
function tell([right, down]) {
  const cell = plot.nearest(right, down, NEAR, shown.index, shown.loud);
  canvas.dataset.cell = cell < 0 ? "" : cells.names[cell];
  if (cell < 0) return forget();
  const lines = colourings.filter((one) => one.name).map((one) => element("div", `${one.name}: ${valueOf(one, cell)}`));
  told.replaceChildren(element("b", cells.names[cell]), ...lines);
  told.hidden = ring.hidden = false;
  const [x, y] = [plot.across(cell), plot.down(cell)];
  Object.assign(ring.style, { left: `${x}px`, top: `${y}px` });
  const room = [canvas.clientWidth - told.offsetWidth, canvas.clientHeight - told.offsetHeight];
  const above = y - told.offsetHeight - 12;
  Object.assign(told.style, { left: `${clamp(x + 12, 0, room[0])}px`, top: `${above < 0 ? y + 12 : above}px` });
}

function centre() {
  const [first, second = first] = [...fingers.values()];
  return { at: [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2], wide: Math.hypot(first[0] - second[0], first[1] - second[1]) };
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, placeOf(event));
  moved = 0;
});
canvas.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return tell(placeOf(event));
  const before = centre();
  fingers.set(event.pointerId, placeOf(event));
  const after = centre();
  const [right, down] = [after.at[0] - before.at[0], after.at[1] - before.at[1]];
  moved += Math.abs(right) + Math.abs(down);
  plot.pan(right, down);
  if (before.wide > 0 && after.wide > 0) plot.zoomAt(after.wide / before.wide, ...after.at);
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    fingers.delete(event.pointerId);
    if (end === "pointerup" && moved < 4) tell(placeOf(event));
  });
}
// A finger that is lifted leaves too, and what it tapped on is to be read.
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && forget());
canvas.addEventListener("dblclick", (event) => zoomed(2, ...placeOf(event)));
canvas.addEventListener("wheel", wheel, { passive: false });

// The wheel scrolls the page until the map was clicked.
function wheel(event) {
  if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  zoomed(2 ** clamp(-event.deltaY / 200, -1, 1), ...placeOf(event));
}

function zoomed(factor, right = canvas.clientWidth / 2, down = canvas.clientHeight / 2) {
  plot.zoomAt(factor, right, down);
  redraw();
}

function panned(right, down) {
  plot.pan(right, down);
  redraw();
}

function home() {
  plot.home();
  redraw();
}

const KEYS = {
  "+": () => zoomed(1.5),
  "=": () => zoomed(1.5),
  "-": () => zoomed(1 / 1.5),
  0: home,
  ArrowLeft: () => panned(STEP, 0),
  ArrowRight: () => panned(-STEP, 0),
  ArrowUp: () => panned(0, STEP),
  ArrowDown: () => panned(0, -STEP),
};
canvas.addEventListener("keydown", (event) => {
  if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  KEYS[event.key]();
});
byId("closer").onclick = KEYS["+"];
byId("wider").onclick = KEYS["-"];
byId("home").onclick = home;

const asked = () => new URLSearchParams(location.hash.slice(1)).get("colour") ?? "";
choice.append(...colourings.map((one) => new Option(one.name, one.key)));
choice.onchange = () => location.replace(`#colour=${encodeURIComponent(choice.value)}`);
window.addEventListener("hashchange", () => show(asked()));
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);
new ResizeObserver(redraw).observe(canvas);
show(asked());
