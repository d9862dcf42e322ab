// A brush that paints over what of a picture counts. The value is {picture, mask, drawn}: data URIs, and whether a person has painted.
const SIDE = 320, TINT = "#12a08a", STEP = 8;
const own = new Set();  // what was painted here comes back late, when more may be painted already
const picture = new Image(), canvas = document.createElement("canvas"), painted = document.createElement("canvas");
const HINT = "By keyboard: arrow keys move the brush, Space paints, Shift with an arrow key paints along, E takes the eraser or the brush, + and - change its size.";
let radius = 20, erasing = false, last = null, cursor = null, loaded = null, changed = false;

const state = () => ({ picture: "", mask: "", drawn: false, ...(props.value || {}) });

function load() {
  const { picture: source, mask } = state();
  if (!source || loaded === source + mask || own.has(source + mask)) { draw(); return; }
  own.clear();
  loaded = source + mask;
  canvas.setAttribute("aria-busy", true);
  picture.onload = () => {
    const scale = SIDE / Math.max(picture.naturalWidth, picture.naturalHeight);
    for (const each of [canvas, painted]) {
      each.width = Math.round(picture.naturalWidth * scale);
      each.height = Math.round(picture.naturalHeight * scale);
    }
    last = null;
    if (!mask) { draw(); return; }
    const old = new Image();
    old.onload = () => { tint(old); draw(); };
    old.src = mask;
  };
  picture.src = source;
}

function tint(mask) {
  const context = painted.getContext("2d");
  context.drawImage(mask, 0, 0, painted.width, painted.height);
  const data = context.getImageData(0, 0, painted.width, painted.height), levels = data.data;
  for (let i = 0; i < levels.length; i += 4) levels.set([18, 160, 138, levels[i] > 127 ? 255 : 0], i);
  context.putImageData(data, 0, 0);
}

function stroke(from, to) {
  const context = painted.getContext("2d");
  context.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = TINT;
  context.lineWidth = 2 * radius;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  context.beginPath();  // a line without a length draws nothing
  context.arc(...to, radius, 0, 7);
  context.fill();
  paint();
}

function paint() {
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 0.55;
  context.drawImage(painted, 0, 0);
  context.globalAlpha = 1;
  if (cursor && document.activeElement === canvas) drawCursor(context);
}

function drawCursor(context) {
  for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.setLineDash(erasing ? [6, 6] : []);
    context.beginPath();
    context.arc(...cursor, radius, 0, 7);
    context.stroke();
  }
  context.setLineDash([]);
}

function store() {
  const flat = document.createElement("canvas"), context = flat.getContext("2d");
  [flat.width, flat.height] = [painted.width, painted.height];
  context.drawImage(painted, 0, 0);
  const data = context.getImageData(0, 0, flat.width, flat.height), levels = data.data;
  for (let i = 0; i < levels.length; i += 4) levels.fill(levels[i + 3] > 127 ? 255 : 0, i, i + 3), (levels[i + 3] = 255);
  context.putImageData(data, 0, 0);
  const mask = flat.toDataURL("image/png");
  own.add(state().picture + mask);
  loaded = null;
  props.value = { ...state(), mask, drawn: true };
  requestAnimationFrame(draw);
}

function place(event) {
  const frame = canvas.getBoundingClientRect();
  return [((event.clientX - frame.left) / frame.width) * canvas.width, ((event.clientY - frame.top) / frame.height) * canvas.height];
}

canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  cursor = null;
  last = place(event);
  stroke(last, last);
};
canvas.onpointermove = (event) => {
  if (!last) return;
  const to = place(event);
  stroke(last, to);
  last = to;
};
canvas.onpointerup = canvas.onpointercancel = () => { if (last) { last = null; store(); } };
canvas.onfocus = () => { cursor = cursor || [canvas.width / 2, canvas.height / 2]; paint(); };
canvas.onblur = paint;
canvas.onkeydown = (event) => {
  const moves = { ArrowUp: [0, -STEP], ArrowDown: [0, STEP], ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0] };
  const acts = { " ": () => along(cursor), e: take, E: take, "+": larger, "-": smaller };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  cursor = cursor || [canvas.width / 2, canvas.height / 2];
  if (event.key in moves) {
    const sides = [canvas.width, canvas.height], from = cursor;
    cursor = cursor.map((value, axis) => Math.min(sides[axis], Math.max(0, value + moves[event.key][axis])));
    if (event.shiftKey) along(from);
  } else if (event.key in acts) acts[event.key]();
  else return;
  event.preventDefault();
  draw();
};
canvas.onkeyup = () => { if (changed) { changed = false; store(); } };  // not for every repeat of a key that is held

function along(from) {
  stroke(from, cursor);
  changed = true;
}

const take = () => { erasing = !erasing; };
const smaller = () => { radius = Math.max(4, radius / 1.5); };
const larger = () => { radius = Math.min(90, radius * 1.5); };

function button(label, act, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  if (pressed !== undefined) made.setAttribute("aria-pressed", pressed);
  made.onclick = () => { act(); draw(); };
  return made;
}

function draw() {
  const root = element.querySelector(".brush");
  if (!root) return;
  if (!state().picture) { root.replaceChildren(); return; }
  const parts = () => [...root.querySelectorAll("button, canvas")];
  const focused = parts().indexOf(document.activeElement);
  const tools = document.createElement("div"), hint = document.createElement("p");
  tools.className = "boxes-names";
  tools.append(
    button("Brush", () => { erasing = false; }, !erasing), button("Eraser", () => { erasing = true; }, erasing),
    button("Smaller", smaller), button("Larger", larger),
    button("Clear", () => { painted.getContext("2d").clearRect(0, 0, painted.width, painted.height); store(); }),
  );
  hint.className = "quiet";
  hint.textContent = HINT;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-busy", false);
  canvas.setAttribute("aria-label", `The picture. Paint over what counts. ${HINT}`);
  root.replaceChildren(tools, canvas, hint);
  if (focused >= 0) parts()[focused].focus({ preventScroll: true });
  paint();
}

watch("value", load);
load();
