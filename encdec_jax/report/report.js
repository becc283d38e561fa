// Adds to a page that is complete without it: what points show, architectures switched off, tables sorted and copied.
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const add = (parent, tag, text, before = null) => {
    const made = parent.insertBefore(document.createElement(tag), before);
    made.textContent = text;
    if (tag === "button") made.type = "button";
    return made;
  };

  // Points: pointed at, touched, or reached by Tab and then the arrow keys. Escape hides what is shown.
  const NEAR = 24; // pixels
  const tip = add(document.body, "div", "");
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true"); // the points' labels say the same
  const hide = () => {
    tip.hidden = true;
    all(".point.shown").forEach((point) => point.classList.remove("shown"));
  };
  const middle = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const show = (point) => {
    hide();
    const [x, y] = middle(point);
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    point.classList.add("shown");
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x - width / 2, document.documentElement.clientWidth - width - 8))}px`;
    tip.style.top = `${y - height - 14 > 0 ? y - height - 14 : y + 14}px`;
  };
  hide();
  for (const picture of all("figure svg")) {
    const points = all(".point", picture);
    if (!points.length) continue;
    picture.setAttribute("role", "group");
    for (const point of points) {
      const title = point.querySelector("title");
      point.setAttribute("aria-label", title.textContent);
      point.setAttribute("role", "img");
      point.setAttribute("tabindex", point === points[0] ? "0" : "-1");
      title.remove();
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", hide);
    }
    const visible = () => points.filter((point) => !point.closest(".off"));
    const reach = (event) => {
      let [found, least] = [null, NEAR];
      for (const point of visible()) {
        const [x, y] = middle(point);
        const distance = Math.hypot(event.clientX - x, event.clientY - y);
        if (distance < least) [found, least] = [point, distance];
      }
      if (found) show(found);
      else hide();
    };
    picture.addEventListener("pointermove", reach);
    picture.addEventListener("pointerdown", reach);
    picture.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const shown = visible();
      const place = shown.indexOf(document.activeElement);
      if (!step || place < 0) return;
      event.preventDefault();
      const next = shown[(place + step + shown.length) % shown.length];
      points.forEach((point) => point.setAttribute("tabindex", point === next ? "0" : "-1"));
      next.focus();
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true });

  // Architectures.
  all(".toggles").forEach((group) => { group.hidden = false; });
  for (const button of all("[data-toggles]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const drawn of all("svg [data-label]")) {
        if (drawn.dataset.label === button.dataset.toggles) drawn.classList.toggle("off", !on);
      }
      for (const picture of all("figure svg")) {
        const points = all(".point", picture);
        const first = points.find((point) => !point.closest(".off"));
        points.forEach((point) => point.setAttribute("tabindex", point === first ? "0" : "-1"));
      }
    });
  }

  // Tables: a column sorts by its leading numbers if all its cells have one, else as text; empty cells stay last.
  const NUMBER = /^(?:more than |less than |over |under )?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?:[x%kMGT]?(?=[\s;]|$))/;
  const UNIT = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const value = (text) => {
    const found = NUMBER.exec(text);
    return found && Number(found[1].replaceAll(",", "")) * (UNIT[found[0].at(-1)] ?? 1);
  };
  const sort = (table, head) => {
    const place = [...head.parentNode.children].indexOf(head);
    const text = (row) => row.cells[place].textContent.trim();
    const rows = [...table.tBodies[0].rows];
    const blank = (row) => ["", "-"].includes(text(row));
    const numeric = rows.every((row) => blank(row) || value(text(row)) !== null);
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    rows.sort((a, b) => {
      if (blank(a) || blank(b)) return blank(a) - blank(b);
      const [x, y] = numeric ? [value(text(a)), value(text(b))] : [text(a), text(b)];
      return sign * (Number(x > y) - Number(x < y));
    });
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  };
  const copy = async (table, said) => {
    const lines = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t"));
    try {
      await navigator.clipboard.writeText(`${lines.join("\n")}\n`);
      said.textContent = `Copied ${lines.length - 1} rows.`;
    } catch {
      getSelection().selectAllChildren(table);
      said.textContent = "The browser forbids copying: the table is selected, copy it by hand.";
    }
  };
  for (const table of all("table")) {
    for (const head of all("th", table)) {
      const label = head.textContent;
      head.textContent = "";
      add(head, "button", label).addEventListener("click", () => sort(table, head));
    }
    const box = table.parentNode;
    const tools = add(box.parentNode, "div", "", box);
    tools.className = "tools";
    const button = add(tools, "button", "Copy table");
    const said = add(tools, "span", "");
    said.setAttribute("role", "status");
    button.addEventListener("click", () => copy(table, said));
  }
})();
