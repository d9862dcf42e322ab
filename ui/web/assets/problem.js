// Puts a sentence beside the field that it is about, the element of the id in data-field; else it stays where it is.
let beside = null;

function place() {
  beside?.remove();
  beside = null;
  const said = element.querySelector(".problem[data-field]");
  const field = said && document.getElementById(said.dataset.field);
  if (!field) return;
  if (!field.checkVisibility()) field.closest(".block:has(> .label-wrap)")?.querySelector(".label-wrap")?.click();
  beside = said.cloneNode(true);
  field.append(beside);
  said.hidden = true;
  beside.scrollIntoView({ block: "nearest" });
}

watch("value", place);
