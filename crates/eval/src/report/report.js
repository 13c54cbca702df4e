"use strict";
// Filter and search of the samples. Without this script every sample is shown.
(() => {
  const controls = document.querySelector(".controls");
  const samples = [...document.querySelectorAll(".sample")];
  if (!controls || samples.length === 0) return;
  const buttons = [...controls.querySelectorAll("button")];
  const search = controls.querySelector("input");
  const count = controls.querySelector(".count");
  const nothing = document.querySelector(".nothing");
  const texts = new Map();
  const text = (sample) => {
    if (!texts.has(sample)) texts.set(sample, sample.textContent.toLowerCase());
    return texts.get(sample);
  };
  let show = "all";
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const sample of samples) {
      const fits = show === "all" || sample.dataset.state === show || sample.dataset.change === show;
      const found = fits && words.every((word) => text(sample).includes(word));
      sample.hidden = !found;
      if (found) shown += 1;
    }
    count.textContent = shown === samples.length ? `${shown} samples` : `${shown} of ${samples.length} samples`;
    nothing.hidden = shown > 0;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      show = button.dataset.show;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
  }
  controls.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", apply);
  controls.hidden = false;
  apply();
})();
