// The slider of the receptive fields: squares and numbers at the chosen share, looked up in what Python computed.
(() => {
  const { shares, maps } = JSON.parse(document.getElementById("squares-data").textContent);
  const slider = document.getElementById("share");
  const curves = document.getElementById("curves");
  const line = curves.querySelector("[id$='-share-line']");
  const table = document.getElementById("squares");

  // a square is cut off at the borders of the map's shorter side
  const drawSquare = (rect, [height, width], [down, across], side) => {
    const [high, wide] = [Math.min(side ?? 0, height), Math.min(side ?? 0, width)];
    rect.setAttribute("width", wide);
    rect.setAttribute("height", high);
    rect.setAttribute("x", side > width ? 0 : across + 0.5 - wide / 2);
    rect.setAttribute("y", side > height ? 0 : down + 0.5 - high / 2);
  };
  const writeNumber = (cell, [height, width], side) => {
    const ratio = (Math.min(side, height) / height) * (Math.min(side, width) / width);
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
        drawSquare(rect, size, centre, sides[rect.dataset.measure][index]);
      }
      for (const cell of table.querySelectorAll(`tr[data-map="${number}"] td[data-measure]`)) {
        writeNumber(cell, size, sides[cell.dataset.measure][index]);
      }
    });
  };
  slider.addEventListener("input", show);
  show();
})();
