// Check boxes that show and hide an observer in the plots of its section.
for (const section of document.querySelectorAll("[data-answers]")) {
  for (const box of section.querySelectorAll("input[data-observer]")) {
    box.addEventListener("change", () => {
      for (const layer of section.querySelectorAll(`g[data-observer="${box.dataset.observer}"]`)) {
        layer.toggleAttribute("hidden", !box.checked);
      }
    });
  }
}
