// Check boxes that show and hide an observer in the figures of its section; `data-observers` holds their slugs.
for (const section of document.querySelectorAll("[data-observers]")) {
  for (const box of section.querySelectorAll("input[type=checkbox]")) {
    box.addEventListener("change", () => {
      for (const slug of section.dataset.observers.split(" ")) {
        for (const part of section.querySelectorAll(`[id^="${slug}-${box.value}-"]`)) {
          part.toggleAttribute("hidden", !box.checked);
        }
      }
    });
  }
}
