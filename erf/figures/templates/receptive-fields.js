// The slider of the receptive fields: squares and numbers at the chosen share, looked up in what Python computed.
(() => {
  const { shares, maps } = JSON.parse(document.getElementById("squares-data").textContent);
  const slider = document.getElementById("share");
  const curves = document.getElementById("curves");
  const line = curves.querySelector("[id$='-share-line']");
  const table = document.getElementById("squares");

  const drawSquare = (rect, [down, across], side) => {
    rect.setAttribute("width", side ?? 0);
    rect.setAttribute("height", side ?? 0);
    rect.setAttribute("x", across + 0.5 - (side ?? 0) / 2);
    rect.setAttribute("y", down + 0.5 - (side ?? 0) / 2);
  };
  const writeNumber = (cell, [height, width], side) => {
    const ratio = (side / height) * (side / width);
    const texts = side === null ? ["not reached", "–"] : [`${side} px`, `${(100 * ratio).toFixed(2)}%`];
    cell.textContent = texts[cell.dataset.part === "side" ? 0 : 1];
    if (side === null) delete cell.dataset.value;
    else cell.dataset.value = cell.dataset.part === "side" ? side : ratio;
  };
  const show = () => {
    const index = Number(slider.value) - 1;
    const text = `${slider.value}%`;
    document.getElementById("share-text").textContent = text;
    document.querySelector(".share-now").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    line.setAttribute("transform", `translate(0 ${(curves.dataset.start - shares[index]) * curves.dataset.height})`);
    maps.forEach(({ size, centre, sides }, number) => {
      for (const rect of document.querySelectorAll(`.map svg[data-map="${number}"] rect`)) {
        drawSquare(rect, centre, sides[rect.dataset.measure][index]);
      }
      for (const cell of table.querySelectorAll(`tr[data-map="${number}"] td[data-measure]`)) {
        writeNumber(cell, size, sides[cell.dataset.measure][index]);
      }
    });
  };
  slider.addEventListener("input", show);
  show();
})();
