// The button between light and dark; the browser remembers the choice.
const KEY = "concept-studio-theme";
const chosen = localStorage.getItem(KEY);

if (chosen) document.body.classList.toggle("dark", chosen === "dark");
element.querySelector("button").onclick = () => {
  localStorage.setItem(KEY, document.body.classList.toggle("dark") ? "dark" : "light");
};
