"use strict";
// Colours, sorting, plots and print of every page. Each part adds to what is readable without it.

(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.textContent = isDark() ? "Light colours" : "Dark colours";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  button.hidden = false;
  show();
})();

const say = (text) => {
  document.getElementById("status").textContent = text;
};

// A column's heading becomes a button: ascending first, then the other way. What has no value stays last.
(() => {
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return column === 0 ? cell.textContent.trim() : cell.dataset.value ?? null;
  };
  const compare = (one, other) => (isNaN(one) ? one.localeCompare(other, "en") : one - other);
  const sort = (table, heading, column) => {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row, column) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * compare(a.value, b.value);
    });
    table.tBodies[0].append(...rows.map(({ row }) => row));
    say(`sorted by ${heading.textContent}, ${direction}`);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading, column));
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
    });
  }
})();

// Tables that are wider than the page say so, as long as there are columns to the right.
(() => {
  for (const frame of document.querySelectorAll(".scroll")) {
    const hint = document.createElement("p");
    hint.className = "hint screen";
    hint.textContent = "More columns: scroll to the right →";
    hint.setAttribute("aria-hidden", "true");
    frame.before(hint);
    const show = () => {
      const rest = frame.scrollWidth - frame.clientWidth - frame.scrollLeft;
      hint.hidden = frame.scrollWidth <= frame.clientWidth + 1;
      hint.classList.toggle("done", rest <= 1);
      frame.classList.toggle("more", rest > 1);
    };
    frame.addEventListener("scroll", show, { passive: true });
    new ResizeObserver(show).observe(frame);
    show();
  }
})();

// Plots: the mark under the pointer says its values; with the keyboard the arrows go from mark to mark. A mark is what
// has a title, which would else be shown by the browser, too; of lines a wider stretch answers to the pointer.
(() => {
  for (const title of document.querySelectorAll(".plot title")) {
    const mark = title.parentElement;
    mark.dataset.tip = title.textContent;
    mark.classList.add("mark");
    title.remove();
    for (const path of mark.querySelectorAll(":scope > path")) {
      if (/z\s*$/.test(path.getAttribute("d"))) continue;
      const reach = path.cloneNode();
      reach.removeAttribute("style");
      reach.classList.add("reach");
      path.before(reach);
    }
  }
  const tip = document.getElementById("tip");
  let chosen = null;
  const leave = () => {
    chosen?.classList.remove("chosen");
    chosen = null;
    tip.hidden = true;
  };
  const choose = (mark) => {
    if (mark === chosen) return;
    leave();
    chosen = mark;
    mark.classList.add("chosen");
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const left = at.left + at.width / 2 - tip.offsetWidth / 2;
    const above = at.top - tip.offsetHeight - 8;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(left, room)) + scrollX}px`;
    tip.style.top = `${(above < 4 ? Math.min(at.bottom + 8, innerHeight - tip.offsetHeight - 4) : above) + scrollY}px`;
  };
  for (const plot of document.querySelectorAll("svg.plot")) {
    plot.addEventListener("pointerover", (event) => {
      const mark = event.target.closest(".mark");
      if (mark) choose(mark);
    });
    plot.addEventListener("pointerleave", leave);
    plot.addEventListener("blur", leave);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return leave();
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const marks = [...plot.querySelectorAll(".mark")].filter((mark) => !mark.closest("[hidden]"));
      const before = marks.indexOf(chosen);
      const next = before < 0 ? (step > 0 ? 0 : marks.length - 1) : (before + step + marks.length) % marks.length;
      if (marks.length) choose(marks[next]);
      say(tip.textContent);
    });
  }
})();

// In print everything is open.
(() => {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not(.screen)")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
