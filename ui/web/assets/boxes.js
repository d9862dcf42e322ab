// A square on which a drag or two clicks give the chosen concept its box. The value is {names, boxes: {name: [top, left, bottom, right]}}.
const COLOURS = ["#35bda5", "#f2a65a", "#7aa5f0", "#e58fb5", "#b6c85a", "#b39ae6"];
const SVG = "http://www.w3.org/2000/svg";
const HINT = "By keyboard: arrow keys move the box, with Shift they resize it, Delete removes it.";
const LEAST = 0.05;  // of a side
let chosen = null, corner = null;

const state = () => ({ names: [], boxes: {}, ...(props.value || {}) });
const shown = (share) => +(share * 100).toFixed(1);
const colour = (name) => COLOURS[state().names.indexOf(name) % COLOURS.length];

function node(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function store(boxes) {
  props.value = { ...state(), boxes };
  trigger("change");
  requestAnimationFrame(draw);
}

function drawNames(root) {
  const bar = document.createElement("div");
  bar.className = "boxes-names";
  for (const name of state().names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name in state().boxes ? `${name} ✓` : name;
    button.setAttribute("aria-pressed", name === chosen);
    button.style.setProperty("--box", colour(name));
    button.onclick = () => { chosen = name; corner = null; draw(); };
    bar.append(button);
  }
  root.append(bar);
}

function drawSquare(root) {
  const svg = node("svg", { viewBox: "0 0 100 100", class: "boxes-canvas", tabindex: "0", role: "application",
    "aria-label": `The picture. A drag, or two clicks, draw the box of ${chosen}. ${HINT}` }, root);
  for (const [name, [top, left, bottom, right]] of Object.entries(state().boxes)) {
    node("rect", { x: shown(left), y: shown(top), width: shown(right - left), height: shown(bottom - top), rx: 1.5,
      fill: colour(name), "fill-opacity": name === chosen ? 0.4 : 0.2, stroke: colour(name), "stroke-width": 0.8 }, svg);
    node("text", { x: left * 100 + 2, y: top * 100 + 6.5 }, svg).textContent = name;
  }
  if (corner) node("circle", { cx: corner[1] * 100, cy: corner[0] * 100, r: 1.6, fill: colour(chosen) }, svg);
  if (!Object.keys(state().boxes).length && !corner)
    node("text", { x: 50, y: 52, "text-anchor": "middle", opacity: 0.6 }, svg).textContent = "drag a box";
  svg.onpointerdown = (event) => press(svg, event);
  svg.onkeydown = keyed;
}

function pointAt(svg, event) {
  const frame = svg.getBoundingClientRect();
  const share = (value) => Math.round(Math.min(1, Math.max(0, value)) * 100) / 100;
  return [share((event.clientY - frame.top) / frame.height), share((event.clientX - frame.left) / frame.width)];
}

function boxBetween(one, other) {
  const [top, bottom] = [one[0], other[0]].sort((a, b) => a - b);
  const [left, right] = [one[1], other[1]].sort((a, b) => a - b);
  return bottom - top < LEAST || right - left < LEAST ? null : [top, left, bottom, right];
}

// A press begins a box, which the release ends where the pointer was dragged; after a mere click the next one ends it.
function press(svg, event) {
  if (!chosen || event.button) return;
  const start = corner || pointAt(svg, event);
  const preview = node("rect", { rx: 1.5, fill: colour(chosen), "fill-opacity": 0.3, "pointer-events": "none" }, svg);
  svg.setPointerCapture(event.pointerId);
  svg.onpointermove = (moved) => {
    const box = boxBetween(start, pointAt(svg, moved));
    if (!box) return;
    const [top, left, bottom, right] = box;
    const shape = { x: shown(left), y: shown(top), width: shown(right - left), height: shown(bottom - top) };
    for (const [key, value] of Object.entries(shape)) preview.setAttribute(key, value);
  };
  svg.onpointerup = (released) => {
    svg.onpointermove = svg.onpointerup = null;
    const box = boxBetween(start, pointAt(svg, released));
    corner = box || corner ? null : start;
    if (box) store({ ...state().boxes, [chosen]: box });
    else draw();
  };
}

function keyed(event) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const boxes = { ...state().boxes };
  if (["Delete", "Backspace"].includes(event.key) && chosen in boxes) delete boxes[chosen];
  else if (event.key in moves && chosen) {
    const [top, left, bottom, right] = boxes[chosen] || [0.25, 0.25, 0.75, 0.75];
    const [down, across] = moves[event.key].map((value) => value * 0.05);
    const moved = event.shiftKey ? [top, left, bottom + down, right + across] : [top + down, left + across, bottom + down, right + across];
    const fits = moved.every((value) => value > -0.001 && value < 1.001) && moved[2] - moved[0] > 0.04 && moved[3] - moved[1] > 0.04;
    if (fits) boxes[chosen] = moved.map((value) => Math.round(value * 100) / 100);
  } else return;
  event.preventDefault();
  store(boxes);
}

function draw() {
  const root = element.querySelector(".boxes");
  const { names } = state();
  if (!root) return;
  const parts = () => [...root.querySelectorAll("button, svg")];
  const focused = parts().indexOf(document.activeElement);
  root.replaceChildren();
  if (!names.includes(chosen)) { chosen = names[0] || null; corner = null; }
  if (!names.length) {
    root.textContent = "Name a concept in the prompt to give it a region.";
    return;
  }
  drawNames(root);
  drawSquare(root);
  const hint = document.createElement("p");
  hint.className = "quiet";
  hint.textContent = HINT;
  root.append(hint);
  parts()[focused]?.focus({ preventScroll: true });
}

watch("value", draw);
draw();
