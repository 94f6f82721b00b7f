// Check boxes that show and hide an observer in the figure of its section.
for (const section of document.querySelectorAll("[data-observers]")) {
  for (const box of section.querySelectorAll("input[type=checkbox]")) {
    box.addEventListener("change", () => {
      for (const part of section.querySelectorAll(`[id^="${section.dataset.observers}-${box.value}-"]`)) {
        part.toggleAttribute("hidden", !box.checked);
      }
    });
  }
}
