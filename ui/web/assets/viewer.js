// The viewer: any picture of the page at full size. A picture takes part when it stands in
//   <button type="button" class="view" data-viewer="GROUP" data-caption="…" data-full="URI"><img alt="…"></button>
// GROUP: arrow keys go along the pictures of one group, in the page's order. In a table, data-row and data-column
// (numbers) let the four arrows go along rows and columns. data-full and data-caption may be left out: then the picture
// itself and its alt text are shown. Pictures of a Gradio gallery are opened by a button with data-gallery="ELEMENT-ID".
const MOST_ZOOM = 12;
const view = { shown: [], at: 0, zoom: 1, x: 0, y: 0, fingers: new Map() };

/** The dialog, made when it is first needed. @returns {HTMLDialogElement} */
function dialog() {
  const known = document.getElementById("viewer");
  if (known) return known;
  const made = document.createElement("dialog");
  made.id = "viewer";
  made.setAttribute("aria-label", "Picture");
  made.innerHTML = `
    <figure><img alt="" draggable="false"><figcaption aria-live="polite"></figcaption></figure>
    <div class="viewer-bar">
      <button type="button" data-go="-1" aria-label="Previous picture">‹</button>
      <span class="viewer-place"></span>
      <button type="button" data-go="1" aria-label="Next picture">›</button>
      <button type="button" data-zoom="1.5" aria-label="Zoom in">+</button>
      <button type="button" data-zoom="0.6667" aria-label="Zoom out">−</button>
      <button type="button" data-close aria-label="Close">✕</button>
    </div>`;
  made.addEventListener("click", pressed);
  made.addEventListener("keydown", typed);
  const figure = made.querySelector("figure");
  figure.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomed(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
  figure.addEventListener("pointerdown", held);
  figure.addEventListener("pointermove", moved);
  for (const kind of ["pointerup", "pointercancel"]) figure.addEventListener(kind, (event) => view.fingers.delete(event.pointerId));
  document.body.append(made);
  return made;
}

/** Opens the viewer. @param {{src: string, alt: string, caption: string, row?: number, column?: number}[]} pictures
 *  @param {number} at the index of the one to show first */
function openViewer(pictures, at) {
  if (!pictures.length) return;
  view.shown = pictures;
  dialog().showModal();
  show(Math.max(0, at));
}

/** Shows one of the pictures, not zoomed. @param {number} at its index */
function show(at) {
  const box = dialog(), picture = view.shown[at];
  view.at = at;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  Object.assign(box.querySelector("img"), { src: picture.src, alt: picture.alt });
  box.querySelector("figcaption").textContent = picture.caption;
  box.querySelector(".viewer-place").textContent = `${at + 1} of ${view.shown.length}`;
  for (const button of box.querySelectorAll("[data-go]")) button.disabled = !(view.shown[at + Number(button.dataset.go)]);
  place();
}

/** Goes to a neighbour, if there is one: along the table that the pictures stand in, else along their order.
 *  @param {number} right columns to the right @param {number} down rows down */
function go(right, down) {
  const now = view.shown[view.at];
  const next = now.row === undefined
    ? view.at + right + down
    : view.shown.findIndex((one) => one.row === now.row + down && one.column === now.column + right);
  if (view.shown[next]) show(next);
}

function zoomed(factor) {
  view.zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * factor));
  if (view.zoom === 1) view.x = view.y = 0;
  place();
}

function place() {
  const picture = dialog().querySelector("img");
  picture.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  picture.classList.toggle("zoomed", view.zoom > 1);
}

function pressed(event) {
  const button = event.target.closest("button");
  if (button?.dataset.go) show(view.at + Number(button.dataset.go));
  else if (button?.dataset.zoom) zoomed(Number(button.dataset.zoom));
  else if (button || event.target === event.currentTarget) dialog().close();
}

const KEYS = {
  ArrowLeft: () => go(-1, 0), ArrowRight: () => go(1, 0), ArrowUp: () => go(0, -1), ArrowDown: () => go(0, 1),
  "+": () => zoomed(1.5), "=": () => zoomed(1.5), "-": () => zoomed(1 / 1.5), 0: () => zoomed(1 / MOST_ZOOM),
};

const DIRECTIONS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function typed(event) {
  const along = event.shiftKey && DIRECTIONS[event.key];
  const action = along ? () => dragged(60 * along[0], 60 * along[1]) : KEYS[event.key];
  if (!action || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  action();
}

/** Moves a picture that is zoomed, in pixels of the screen. */
function dragged(x, y) {
  if (view.zoom === 1) return;
  view.x += x;
  view.y += y;
  place();
}

function held(event) {
  event.currentTarget.setPointerCapture(event.pointerId);
  view.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
}

/** Drags with one finger or the mouse, zooms with two fingers. */
function moved(event) {
  const before = view.fingers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  const other = [...view.fingers].find(([id]) => id !== event.pointerId)?.[1];
  view.fingers.set(event.pointerId, now);
  if (other) return zoomed(distance(now, other) / Math.max(1, distance(before, other)));
  dragged(now.x - before.x, now.y - before.y);
}

function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

/** What the viewer shows of a button around a picture. @param {HTMLElement} button */
function described(button) {
  const picture = button.querySelector("img"), { full, caption, row, column } = button.dataset;
  const place = row === undefined ? {} : { row: Number(row), column: Number(column) };
  return { src: full || picture.src, alt: picture.alt, caption: caption || picture.alt, ...place };
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-viewer]"), opener = event.target.closest?.("[data-gallery]");
  if (button) {
    const group = document.querySelectorAll(`[data-viewer="${CSS.escape(button.dataset.viewer)}"]`);
    const visible = [...group].filter((one) => one.checkVisibility());
    openViewer(visible.map(described), visible.indexOf(button));
  } else if (opener) {
    const found = [...document.querySelectorAll(`#${CSS.escape(opener.dataset.gallery)} .grid-wrap img`)];
    const chosen = found.findIndex((one) => one.closest(".selected"));
    openViewer(found.map((one, index) => ({ src: one.src, alt: one.alt, caption: one.alt || `Picture ${index + 1}` })), chosen);
  }
});
