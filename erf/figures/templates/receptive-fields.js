// The slider of the receptive fields: squares and numbers at the chosen share, looked up in what Python computed.
(() => {
  const { shares, maps } = JSON.parse(document.getElementById("squares-data").textContent);
  const slider = document.getElementById("share");
  const curves = document.getElementById("curves");
  const line = curves.querySelector("[id$='-share-line']");
  const table = document.getElementById("squares");

  // a square is cut off where it leaves the map
  const cutOff = (middle, side, length) => [Math.max(middle - side / 2, 0), Math.min(middle + side / 2, length)];
  const drawSquare = (rect, [height, width], [down, across], side) => {
    const [top, bottom] = cutOff(down + 0.5, side ?? 0, height);
    const [left, right] = cutOff(across + 0.5, side ?? 0, width);
    rect.setAttribute("width", right - left);
    rect.setAttribute("height", bottom - top);
    rect.setAttribute("x", left);
    rect.setAttribute("y", top);
  };
  const writeNumber = (cell, side, ratio) => {
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
    maps.forEach(({ size, centre, sides, ratios }, number) => {
      for (const rect of document.querySelectorAll(`.map svg[data-map="${number}"] rect`)) {
        drawSquare(rect, size, centre, sides[rect.dataset.measure][index]);
      }
      for (const cell of table.querySelectorAll(`tr[data-map="${number}"] td[data-measure]`)) {
        writeNumber(cell, sides[cell.dataset.measure][index], ratios[cell.dataset.measure][index]);
      }
    });
  };
  slider.addEventListener("input", show);
  show();
})();
