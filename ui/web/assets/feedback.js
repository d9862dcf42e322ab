// Old feedback goes when a person enters something new: what is said of that field, and what was told as done in the tab.
function forget(event) {
  if (!event.isTrusted) return;  // Gradio reports what the server filled in, too
  const panel = event.target.closest?.("[role=tabpanel]");
  if (!panel) return;
  for (const note of panel.querySelectorAll(".message.good")) note.hidden = true;
  for (const problem of panel.querySelectorAll(".problem[role=alert]")) {
    const field = problem.dataset.field && document.getElementById(problem.dataset.field);
    if (!field || field.contains(event.target)) problem.hidden = true;
  }
}

for (const kind of ["input", "change"]) document.addEventListener(kind, forget);
