"use strict";
// The switch between light and dark. Without it the page follows the system. A report opened from a file may not be
// allowed to remember the choice; then it holds for this visit.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try { return localStorage.getItem("underdog-theme"); } catch { return null; }
  };
  const asked = /[#&]theme=(light|dark)/.exec(location.hash);
  const known = asked ? asked[1] : remembered();
  if (known === "light" || known === "dark") root.dataset.theme = known;
  root.dataset.errors = "0";
  const wrong = () => { root.dataset.errors = String(Number(root.dataset.errors) + 1); };
  addEventListener("error", wrong);
  addEventListener("securitypolicyviolation", wrong);
  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".theme");
    if (!button) return;
    const now = () => getComputedStyle(root).getPropertyValue("--theme").trim();
    const show = () => { button.textContent = now() === "dark" ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      try { localStorage.setItem("underdog-theme", root.dataset.theme); } catch { /* see above */ }
      show();
    });
    dark.addEventListener("change", show);
    button.hidden = false;
    show();
  });
})();
