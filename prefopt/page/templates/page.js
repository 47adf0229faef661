"use strict";

(() => {
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text) element.textContent = text;
    return element;
  };

  const button = (name, text, label, act) => {
    const element = make("button", name, text);
    element.type = "button";
    if (label) element.setAttribute("aria-label", label);
    element.addEventListener("click", act);
    return element;
  };

  /* Tables as CSV: header and rows as they stand, with plain figures in place of typeset ones. */

  const words = (element) => element.textContent.replace(/\s+/g, " ").trim();

  const plain = (cell) => {
    const text = words(cell);
    if (cell.classList.contains("n") && /^[\u2212-]?[\d,]*\.?\d+(e[+-]?\d+)?%?$/.test(text)) return text.replace("\u2212", "-").replace(/,/g, "");
    return /^[=+@-]./.test(text) ? "'" + text : text;
  };

  const quoted = (text) => (/[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text);

  const csv = (table) =>
    [...table.rows].map((row) => [...row.cells].map((cell) => quoted(plain(cell))).join(",") + "\r\n").join("");

  const save = (name, text) => {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  document.querySelectorAll("table").forEach((table, place) => {
    const title = words(table.caption).split(/[.,;:](?:\s|$)/)[0];
    const slug = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
    const line = make("p", "save");
    line.append(button("", "Download CSV", `Download CSV: ${title}`, () => save(`table-${place + 1}-${slug}.csv`, csv(table))));
    table.after(line);
  });

  /* Pairs of images, enlarged: by a click or the pair's button; arrow keys go on, Escape closes. */

  const dialog = make("dialog", "large");
  const heading = make("p", "title");
  const pair = make("div", "duo");
  const place = make("span", "place");
  const bar = make("div", "bar");
  let pairs = [];
  let at = 0;

  const show = (next) => {
    at = (next + pairs.length) % pairs.length;
    const figure = pairs[at];
    heading.textContent = words(figure.querySelector("figcaption"));
    place.textContent = `${at + 1} of ${pairs.length}`;
    pair.replaceChildren(...[...figure.querySelectorAll(".duo > div")].map((half) => half.cloneNode(true)));
    dialog.scrollTop = 0;
  };

  const open = (figure) => {
    pairs = [...figure.closest(".grid").querySelectorAll("figure")];
    show(pairs.indexOf(figure));
    dialog.showModal();
  };

  const previous = button("", "\u2190", "Previous pair", () => show(at - 1));
  const next = button("", "\u2192", "Next pair", () => show(at + 1));
  const close = button("", "Close", "", () => dialog.close());
  heading.id = "large-heading";
  heading.setAttribute("aria-live", "polite");
  dialog.setAttribute("aria-labelledby", heading.id);
  bar.append(previous, next, place, close);
  dialog.append(bar, pair, heading);
  document.body.append(dialog);

  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(at + step);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => pairs[at].querySelector("button").focus());

  document.querySelectorAll(".grid .duo").forEach((duo) => {
    const figure = duo.closest("figure");
    const label = `Enlarge the pair: ${words(figure.querySelector("figcaption"))}`;
    duo.classList.add("zooms");
    duo.addEventListener("click", () => open(figure));
    duo.append(button("zoom", "\u2922", label, () => {}));
  });
})();
