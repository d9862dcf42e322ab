// Completes <NAME> in the prompt: chips for the names that fit what is written, Tab takes the first. The value is a list of names.
// Ctrl+Enter (Command+Enter) generates, wherever the focus is in the tab.
const field = () => document.querySelector("#prompt textarea");
let fitting = [];

function unfinished() {
  const area = field();
  return area ? area.value.slice(0, area.selectionStart).match(/<([\w-]*)$/) : null;
}

function insert(name) {
  const area = field(), begun = unfinished();
  const end = area.selectionStart, start = begun ? end - begun[0].length : end;
  const before = area.value.slice(0, start);
  const space = !begun && before && !/\s$/.test(before) ? " " : "";
  area.value = `${before}${space}<${name}>${area.value.slice(end)}`;
  area.dispatchEvent(new Event("input", { bubbles: true }));
  area.focus();
  const caret = start + space.length + name.length + 2;
  area.setSelectionRange(caret, caret);
}

function draw() {
  const bar = element.querySelector(".chips");
  if (!bar) return;
  const begun = unfinished(), names = props.value || [];
  fitting = begun ? names.filter((name) => name.toLowerCase().startsWith(begun[1].toLowerCase())) : names;
  bar.replaceChildren();
  if (!names.length) bar.textContent = "No concept is trained yet: train one in the tab Train. Any other prompt can be generated.";
  for (const name of fitting.slice(0, 24)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `<${name}>`;
    button.title = `Insert ${name} into the prompt`;
    button.onmousedown = (event) => event.preventDefault();
    button.onclick = () => insert(name);
    bar.append(button);
  }
}

document.addEventListener("input", (event) => { if (event.target === field()) draw(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Tab" || event.shiftKey || event.target !== field() || !unfinished() || !fitting.length) return;
  event.preventDefault();
  insert(fitting[0]);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#generation")) return;
  event.preventDefault();
  event.stopPropagation();  // Gradio's own handler would add a line
  document.getElementById("generate-button").click();
}, true);
watch("value", draw);
draw();
