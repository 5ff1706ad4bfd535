"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const {values, grid, sets, judged} = data;
const size = values.length, centre = (size - 1) / 2, count = data.effects.length;
const byId = id => document.getElementById(id);
const named = c => data.classes[c] ?? String(c);
const signed = v => (v < 0 ? "\u2212" : "+") + Math.abs(v).toFixed(2);

// What is shown: a place in the disc, or one along a further direction.
const state = {image: 0, column: centre, row: centre, direction: 0, step: centre};

// Members are tiles of a sprite: the image, the disc, the directions, the worst one.
function tile() {
  if (state.direction < 2 || state.step === centre) return 1 + grid[state.column][state.row];
  const step = state.step - (state.step > centre ? 1 : 0);  // the centre is of the disc
  return 1 + data.members + (state.direction - 2) * (size - 1) + step;
}
const worstTile = 1 + data.members + (count - 2) * (size - 1);

function coordinates() {
  const at = new Array(count).fill(0);
  if (state.direction < 2) [at[0], at[1]] = [values[state.column], values[state.row]];
  else at[state.direction] = values[state.step];
  return at;
}

function draw(canvas, sprite, number) {
  canvas.width = data.width;
  canvas.height = data.height;
  const x = number % data.columns * data.width;
  const y = Math.floor(number / data.columns) * data.height;
  canvas.getContext("2d").drawImage(
    sprite, x, y, data.width, data.height, 0, 0, data.width, data.height);
}

// Moving.

function toPlace(column, row) {
  Object.assign(state, {column, row, direction: 0, step: centre});
  show();
}

function nearest(x, y) {  // in radii
  let best = [centre, centre], least = Infinity;
  for (let c = 0; c < size; c++) for (let r = 0; r < size; r++) {
    if (grid[c][r] < 0) continue;
    const distance = Math.hypot(values[c] / data.radius - x, values[r] / data.radius - y);
    if (distance < least) [best, least] = [[c, r], distance];
  }
  return best;
}

// The place of that column (or row) inside of the circle which is nearest in the other.
function within(column, row, keepColumn) {
  while (grid[column][row] < 0) {
    if (keepColumn) row += Math.sign(centre - row);
    else column += Math.sign(centre - column);
  }
  return [column, row];
}

function slide(direction, step) {
  if (direction === 0) toPlace(...within(step, state.row, true));
  else if (direction === 1) toPlace(...within(state.column, step, false));
  else {
    Object.assign(state, {column: centre, row: centre, direction, step});
    show();
  }
}

// The disc. Lengths are in radii, the second direction points up.

const svg = (name, attributes, parent, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return parent ? parent.appendChild(element) : element;
};
const plane = byId("plane");
const PATTERNS = ["", "M0 .08L.08 0", "M.04 0V.08", "M0 .04H.08", "M0 0L.08 .08M0 .08L.08 0"];
const classes = Object.keys(data.classes).map(Number);
const styleOf = new Map(classes.map((c, i) => [c, i % (data.colours.length * PATTERNS.length)]));

function defineStyles() {
  const defs = svg("defs", {}, plane);
  const clip = svg("clipPath", {id: "ball"}, defs);
  svg("circle", {r: 1}, clip);
  for (const [c, style] of styleOf) {
    const colour = data.colours[style % data.colours.length];
    const lines = PATTERNS[Math.floor(style / data.colours.length)];
    const pattern = svg("pattern", {id: `class${c}`, width: .08, height: .08,
      patternUnits: "userSpaceOnUse"}, defs);
    svg("rect", {width: .08, height: .08, fill: "#fff"}, pattern);
    svg("rect", {width: .08, height: .08, fill: colour, "fill-opacity": .65}, pattern);
    if (lines) svg("path", {d: lines, stroke: "#fff", "stroke-width": .02}, pattern);
  }
}

const sign = {
  member: g => {
    svg("circle", {r: .055, fill: "none", stroke: "#fff", "stroke-width": .045}, g);
    svg("circle", {r: .055, fill: "none", stroke: "#000", "stroke-width": .02}, g);
  },
  worst: g => {
    const d = "M-.04 -.04L.04 .04M-.04 .04L.04 -.04";
    svg("path", {d, stroke: "#fff", "stroke-width": .05, "stroke-linecap": "round"}, g);
    svg("path", {d, stroke: "#000", "stroke-width": .022, "stroke-linecap": "round"}, g);
  },
  point: g => svg("circle", {r: .013, fill: "#000", "fill-opacity": .6}, g),
  own: g => svg("circle", {r: .026, fill: "#000", stroke: "#fff", "stroke-width": .012}, g),
};
const put = (kind, x, y, parent) =>
  sign[kind](svg("g", {transform: `translate(${x / data.radius} ${-y / data.radius})`}, parent));

function drawPlane() {
  plane.replaceChildren();
  defineStyles();
  const set = sets[state.image];
  svg("circle", {r: 1, fill: judged ? "#fff" : "#f1f1f1"}, plane);
  if (judged) drawMap(set, svg("g", {"clip-path": "url(#ball)", "shape-rendering": "crispEdges"}, plane));
  svg("path", {d: "M-1 0H1M0 -1V1", stroke: "#000", "stroke-opacity": .25, "stroke-width": .006}, plane);
  const points = svg("g", {}, plane);
  for (const [x, y, image] of data.points) if (image !== state.image) put("point", x, y, points);
  for (const [x, y, image] of data.points) if (image === state.image) put("own", x, y, points);
  if (judged) nameRegions(set, svg("g", {class: "regions"}, plane));
  svg("circle", {r: 1, fill: "none", stroke: "#000", "stroke-width": .014}, plane);
  if (set.certified && set.certified[1] > 0) {
    const r = Math.min(set.certified[1] / data.radius, 1);
    for (const [stroke, width, dashes] of [["#fff", .03, "none"], ["#000", .014, ".05 .035"]])
      svg("circle", {r, fill: "none", stroke, "stroke-width": width, "stroke-dasharray": dashes}, plane);
  }
  if (set.worst) put("worst", ...set.worst.at, plane);
  const label = (x, y, text, more = {}) => svg("text", {x, y, "text-anchor": "middle", ...more}, plane, text);
  label(0, 1.09, "direction 1");
  label(0, 0, "direction 2", {transform: "translate(-1.07 0) rotate(-90)"});
  label(-1, 1.09, (-data.radius).toPrecision(3).replace("-", "\u2212"), {"text-anchor": "start"});
  label(1, 1.09, data.radius.toPrecision(3), {"text-anchor": "end"});
  svg("g", {id: "marker"}, plane);
}

function drawMap(set, layer) {
  const side = Math.sqrt(set.cells.length), step = 2 / (side - 1);
  for (let c = 0; c < side; c++) for (let r = 0; r < side;) {
    const found = set.cells[c * side + r];
    let end = r + 1;
    while (end < side && set.cells[c * side + end] === found) end++;
    if (found >= 0) svg("rect", {
      x: -1 + (c - .5) * step, y: 1 - (end - .5) * step, width: step,
      height: (end - r) * step, fill: `url(#class${found})`}, layer);
    r = end;
  }
}

// A name in the largest square of each class, if that has room for it.
function nameRegions(set, layer) {
  const side = Math.sqrt(set.cells.length), step = 2 / (side - 1);
  const squares = new Map(), sides = new Array(set.cells.length).fill(0);
  set.cells.forEach((found, i) => {  // i is the last column and row of a square
    const before = [i - 1, i - side, i - side - 1];
    const grown = i % side && i >= side && before.every(j => set.cells[j] === found);
    sides[i] = 1 + (grown ? Math.min(...before.map(j => sides[j])) : 0);
    if (found >= 0 && sides[i] > (squares.get(found)?.cells ?? 0))
      squares.set(found, {cells: sides[i], last: i});
  });
  for (const [found, {cells, last}] of squares) {
    const name = named(found), middle = (cells - 1) / 2;
    if (cells * step < Math.max(.15, .055 * name.length)) continue;
    const x = -1 + (Math.floor(last / side) - middle) * step;
    const y = 1 - (last % side - middle) * step;
    svg("text", {x, y, dy: ".035", "text-anchor": "middle"}, layer, name);
  }
}

function drawLegend() {
  const set = sets[state.image], legend = byId("legend");
  legend.replaceChildren();
  const entry = (paint, text, box = "-.1 -.1 .2 .2") => {
    const item = legend.appendChild(document.createElement("li"));
    paint(svg("svg", {viewBox: box, "aria-hidden": "true"}, item));
    item.append(text);
  };
  if (judged) for (const c of [...new Set(set.cells)].filter(c => c >= 0).sort((a, b) => a - b))
    entry(g => svg("rect", {width: .16, height: .16, fill: `url(#class${c})`, stroke: "#000",
      "stroke-width": .008}, g), `answers ${named(c)}`, "-.02 -.02 .2 .2");
  entry(sign.member, "the member shown");
  entry(g => svg("circle", {r: .08, fill: "none", stroke: "#000", "stroke-width": .014}, g),
    `edge of the ball, radius ${data.radius.toPrecision(3)}`);
  if (set.certified && set.certified[1] > 0)
    entry(g => svg("circle", {r: .08, fill: "none", stroke: "#000", "stroke-width": .016,
      "stroke-dasharray": ".05 .034"}, g), `certified radius ${set.certified[1].toPrecision(2)}`);
  if (set.worst) entry(sign.worst, "the worst member found, projected");
  if (data.points.some(p => p[2] === state.image)) entry(sign.own, "pairs of this image", "-.05 -.05 .1 .1");
  if (data.points.some(p => p[2] !== state.image)) entry(sign.point, "other pairs", "-.05 -.05 .1 .1");
}

// Showing.

function verdict(set) {
  const parts = [];
  if (set.label !== null) parts.push(`The true class is ${named(set.label)}.`);
  parts.push(`To the image itself the classifier answers ${named(set.answer)}`
    + (set.worst.norm || !set.misclassified ? `; to the worst member, at norm `
      + `${set.worst.norm.toFixed(2)} and ${set.worst.off.toFixed(2)} off the plane, `
      + `${named(set.worst.answer)}.` : ", which is wrong without any perturbation."));
  if (set.certified) parts.push(set.certified[0] < 0 ? "With noise it abstains: nothing is certified."
    : `With noise, ${named(set.certified[0])} is certified up to radius ${set.certified[1].toFixed(2)}.`);
  return parts.join(" ");
}

function show() {
  const set = sets[state.image], at = coordinates(), number = tile();
  const norm = Math.hypot(...at);
  const where = state.direction < 2
    ? `direction 1: ${signed(at[0])}, direction 2: ${signed(at[1])}`
    : `direction ${state.direction + 1}: ${signed(at[state.direction])}, all others 0`;
  const answer = judged ? ` The classifier answers ${named(set.answers[number - 1])}`
    + (judged.sigma ? " to most noisy ones around it." : ".") : "";
  const text = `At ${where}; norm ${norm.toFixed(2)} of at most ${data.radius.toPrecision(3)}.${answer}`;
  const member = byId("member");
  draw(member, set.picture, number);
  member.dataset.coordinates = JSON.stringify(at);
  member.setAttribute("aria-label", `Member of the set of image ${state.image + 1}. ${text}`);
  byId("said").textContent = text;
  const marker = byId("marker");
  marker.replaceChildren();
  put("member", at[0], at[1], marker);
  document.querySelectorAll("#sliders input").forEach((input, i) => {
    const step = i === 0 ? state.column : i === 1 ? state.row : i === state.direction ? state.step : centre;
    input.value = step;
    input.setAttribute("aria-valuetext", signed(values[step]));
    input.parentElement.querySelector("output").textContent = signed(values[step]);
  });
}

function chooseImage(i) {
  state.image = i;
  const set = sets[i];
  draw(byId("image"), set.picture, 0);
  byId("image").setAttribute("aria-label", `Image ${i + 1} itself`);
  if (set.worst) {
    draw(byId("worst"), set.picture, worstTile);
    byId("worst").setAttribute("aria-label", `The worst member found of image ${i + 1}`);
    byId("verdict").textContent = verdict(set);
  }
  drawPlane();
  drawLegend();
  show();
}

// Setting up.

function addSliders() {
  for (let i = 0; i < count; i++) {
    const label = byId("sliders").appendChild(document.createElement("label"));
    const name = label.appendChild(document.createElement("span"));
    name.append(`Direction ${i + 1} `);
    const effect = name.appendChild(document.createElement("small"));
    effect.textContent = `effect ${data.effects[i].toPrecision(2)}`;
    label.appendChild(document.createElement("output"));
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, {id: `direction${i + 1}`, type: "range", min: 0, max: size - 1,
      step: 1, value: centre});
    label.htmlFor = input.id;  // the first thing in it to be labelled is the output
    input.addEventListener("input", () => slide(i, Number(input.value)));
  }
}

function addImages() {
  sets.forEach((set, i) => {
    const label = document.querySelector("#images div").appendChild(document.createElement("label"));
    const input = label.appendChild(document.createElement("input"));
    Object.assign(input, {type: "radio", name: "image", value: i, checked: i === 0});
    const known = set.label === undefined || set.label === null ? "" : `, class ${named(set.label)}`;
    input.setAttribute("aria-label", `Image ${i + 1}${known}`);
    input.addEventListener("change", () => chooseImage(i));
    draw(label.appendChild(document.createElement("canvas")), set.picture, 0);
  });
}

function follow(event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.getScreenCTM().inverse());
  toPlace(...nearest(at.x, -at.y));
}
plane.addEventListener("pointerdown", event => {
  plane.setPointerCapture(event.pointerId);
  follow(event);
});
plane.addEventListener("pointermove", event => {
  if (plane.hasPointerCapture(event.pointerId)) follow(event);
});
plane.addEventListener("keydown", event => {
  const [right, up] = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
    Home: [0, 0]}[event.key] ?? [];
  if (right === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  if (event.key === "Home") return toPlace(centre, centre);
  const bounded = i => Math.min(Math.max(i, 0), size - 1);
  toPlace(...within(bounded(state.column + right), bounded(state.row + up), right !== 0));
});
byId("centre").addEventListener("click", () => toPlace(centre, centre));

(async () => {
  for (const set of sets) {
    set.picture = new Image();
    set.picture.src = `data:image/png;base64,${set.sprite}`;
    await set.picture.decode();
  }
  addSliders();
  addImages();
  chooseImage(0);
  document.body.dataset.ready = "yes";
})();
