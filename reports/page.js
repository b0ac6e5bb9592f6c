// Contents: data · filters · tables · charts · downloads · start.
// Everything on the page can be read without this file; it makes charts live, filters and downloads.

// ---- data: one packed copy, unpacked when first asked for ----
const page = JSON.parse(document.getElementById("page-data").textContent);
const unpacked = {};
const KEYS = ["model", "image_set", "attribute", "view", "metric"];

// A column is a list, one value for all rows, or integer codes of the few values that there are.
function column(c) {
  if (Array.isArray(c)) return c;
  return "every" in c ? Array(c.n).fill(c.every) : c.codes.map((code) => c.levels[code]);
}

function rows(name) {
  if (!unpacked[name]) {
    const columns = Object.entries(page.data[name]).map(([key, c]) => [key, column(c)]);
    const n = columns.length ? columns[0][1].length : 0;
    unpacked[name] = Array.from({ length: n }, (_, i) =>
      Object.fromEntries(columns.map(([key, values]) => [key, values[i]])));
  }
  return unpacked[name];
}

// ---- filters ----
const form = document.querySelector(".filters");
const chosen = {};

function label(key, value) {
  const options = form ? [...form.querySelectorAll(`[name="${key}"] option`)] : [];
  return (options.find((o) => o.value === value) || { textContent: value }).textContent;
}

function agrees(element) {
  return KEYS.every((key) => {
    const own = element.getAttribute("data-" + key);
    return !chosen[key] || own === null || own === chosen[key];
  });
}

// One model, looked at in every chart and table: the others stand back.
function highlight(model) {
  const select = form && form.querySelector("[name=highlight]");
  if (!select || ![...select.options].some((o) => o.value === model)) return;
  select.value = select.value === model ? "" : model;
  select.dispatchEvent(new Event("change", { bubbles: true }));
}

function markAll() {
  const lit = chosen.highlight;
  for (const row of document.querySelectorAll("tr[data-model], .strip[data-model]"))
    row.classList.toggle("lit", row.dataset.model === lit);
  for (const figure of figures)
    figure.element.classList.toggle("back", Boolean(lit && figure.where.model && figure.where.model !== lit));
}

function filterAll() {
  // Not every table: the tooltip that Vega leaves behind is one too.
  for (const table of document.querySelectorAll(".table-box table")) filterTable(table);
  for (const strip of document.querySelectorAll(".strip")) strip.hidden = !agrees(strip);
  for (const span of document.querySelectorAll("[data-current]")) {
    const key = span.dataset.current;
    span.textContent = label(key, chosen[key] || span.dataset.default);
  }
  let shown = 0;
  for (const figure of figures) shown += filterFigure(figure) ? 1 : 0;
  const lines = document.querySelectorAll("main tbody tr:not(.body-head)");
  const visible = [...lines].filter((r) => !r.hidden).length;
  const any = KEYS.some((key) => chosen[key]);
  markAll();
  form.querySelector(".state").textContent = any
    ? `${visible} of ${lines.length} table rows and ${shown} of ${figures.length} charts match.` : "";
  refreshAll();
}

// ---- tables ----
function filterTable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const off = heads.map((th) => !agrees(th));
  const columns = off.some(Boolean) || table.dataset.cut;
  heads.forEach((th, i) => { th.hidden = off[i]; });
  table.dataset.cut = off.some(Boolean) ? "1" : "";
  let left = 0;
  for (const body of table.tBodies) {
    let inBody = 0;
    for (const row of body.rows) {
      if (row.classList.contains("body-head")) continue;
      row.hidden = !agrees(row);
      inBody += row.hidden ? 0 : 1;
      if (columns) [...row.cells].forEach((cell, i) => { cell.hidden = off[i]; });
    }
    body.hidden = inBody === 0 && body.rows.length > 0;
    left += inBody;
  }
  const box = table.closest(".table-box");
  box.querySelector(".none").hidden = left > 0;
}

// ---- charts ----
const figures = [...document.querySelectorAll("figure.chart")].map((element) => ({
  element,
  plot: element.querySelector(".plot"),
  note: element.querySelector(".note"),
  source: element.dataset.source,
  where: JSON.parse(element.dataset.where),
  defaults: JSON.parse(element.dataset.defaults),
  highlight: element.dataset.highlight.split(" ").filter(Boolean),
  finding: element.querySelector(".plot").getAttribute("aria-label"),
  result: null,
  stale: false,
  empty: false,
}));
for (const figure of figures) figure.said = figure.note ? figure.note.textContent : "";

function rowsOf(figure) {
  const fixed = { ...figure.defaults, ...figure.where };
  for (const key of Object.keys(figure.defaults)) if (chosen[key]) fixed[key] = chosen[key];
  let out = rows(figure.source).filter((r) => Object.entries(fixed).every(([k, v]) => r[k] === v));
  let marked = "";
  for (const key of KEYS) {
    if (!chosen[key] || key in fixed || !out.length || !(key in out[0])) continue;
    if (figure.highlight.includes(key)) marked = key;
    else out = out.filter((r) => r[key] === chosen[key]);
  }
  // Each chart gets rows of its own, copied by their named keys only: Vega marks a row that it has seen with a
  // hidden symbol, and takes a copy that carries the mark for the old row.
  const lit = chosen.highlight;
  return out.map((r) => ({
    ...Object.fromEntries(Object.entries(r)),
    on: (!marked || r[marked] === chosen[marked]) && (!lit || !r.model || [r.model, r.column].includes(lit)),
  }));
}

function filterFigure(figure) {
  const clash = Object.entries(figure.where).some(([k, v]) => chosen[k] && chosen[k] !== v);
  figure.element.hidden = clash;
  figure.stale = true;
  if (clash) return false;
  const own = rowsOf(figure);
  figure.empty = !own.some((r) => r.value !== null);
  figure.plot.hidden = figure.empty;
  figure.element.querySelector(".none").hidden = !figure.empty;
  describe(figure, own);
  return !figure.empty;
}

// What a figure says must stay true when its rows change: count again, or fall silent.
function describe(figure, own) {
  const moved = Object.keys(figure.defaults).some((k) => chosen[k] && chosen[k] !== figure.defaults[k]);
  const fewer = chosen.view && own.length && "view" in own[0];
  let note = figure.said;
  if ((moved || fewer) && own.length && "finding" in own[0]) {
    const known = own.filter((r) => r.finding !== "no band");
    const outside = known.filter((r) => r.finding === "outside").length;
    note = `${outside} of ${known.length} ${known.length === 1 ? "view" : "views"} outside`;
  }
  if (figure.note) figure.note.textContent = note;
  const now = Object.entries({ ...figure.defaults, ...figure.where })
    .map(([k, v]) => label(k, chosen[k] || v)).join(", ");
  figure.plot.setAttribute("aria-label", moved || fewer ? `${now}. ${figure.note ? note : ""}` : figure.finding);
}

async function live(figure) {
  const own = rowsOf(figure);
  if (figure.result) {
    if (figure.stale) await figure.result.view.data("rows", own).resize().runAsync();
    figure.stale = false;
    return figure.result;
  }
  if (!window.vegaEmbed) return null;
  const place = document.createElement("div");
  const spec = { ...page.specs[figure.element.dataset.spec], datasets: { rows: own } };
  figure.stale = false;
  figure.result = await window.vegaEmbed(place, spec, {
    mode: "vega-lite", renderer: "svg", actions: false, config: page.config, tooltip: { theme: "custom" },
  });
  figure.result.view.addEventListener("click", (_, item) => { if (item && item.datum) highlight(item.datum.model); });
  // The static picture stays until its successor is drawn.
  figure.plot.replaceChildren(place);
  figure.element.dataset.live = "true";
  return figure.result;
}

let queue = Promise.resolve();
function soon(figure) {
  if (figure.empty) return queue; // there is nothing to draw until the filter changes
  queue = queue.then(() => live(figure)).catch((error) => console.error(error));
  return queue;
}

function refreshAll() {
  for (const figure of figures) if (!figure.element.hidden) soon(figure);
}

function watch() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      soon(figures.find((f) => f.element === entry.target));
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) seen.observe(figure.element);
}

// ---- downloads ----
function save(name, href) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  if (href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(href), 10000);
}

function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A text that a spreadsheet would run as a formula is made plain text.
  const text = /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value);
  return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv(name) {
  const keys = Object.keys(page.data[name]);
  const lines = rows(name).map((r) => keys.map((k) => csvCell(r[k])).join(","));
  return [keys.join(","), ...lines].join("\r\n") + "\r\n";
}

// A table that no data set stands behind is saved as it is shown; headings within it become a column.
function csvOf(table) {
  const headed = table.querySelector(".body-head") !== null;
  const line = (first, row) => [...(headed ? [first] : []), ...[...row.cells].map((c) => c.textContent.trim())].map(csvCell).join(",");
  const lines = [line("Part", table.tHead.rows[0])];
  for (const body of table.tBodies) {
    const head = body.querySelector(".body-head");
    for (const row of body.rows) if (row !== head) lines.push(line(head ? head.textContent.trim() : "", row));
  }
  return lines.join("\r\n") + "\r\n";
}

async function saveFigure(figure, kind) {
  const result = await live(figure);
  if (!result) return;
  const name = `${figure.element.querySelector(".name").textContent}-${figure.element.id}`.replace(/[^\w.-]+/g, "_");
  if (kind === "svg") {
    const text = await result.view.toSVG();
    save(`${name}.svg`, URL.createObjectURL(new Blob([text], { type: "image/svg+xml" })));
  } else {
    save(`${name}.png`, await result.view.toImageURL("png", 3));
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-csv], button[data-save]");
  if (!button) return;
  if (button.dataset.csv !== undefined) {
    const box = button.closest(".table-box");
    const text = button.dataset.csv ? csv(button.dataset.csv) : csvOf(box.querySelector("table"));
    save(`${button.dataset.csv || box.id}.csv`, URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" })));
  } else {
    const figure = figures.find((f) => f.element.contains(button));
    saveFigure(figure, button.dataset.save).catch((error) => console.error(error));
  }
});

// ---- start ----
const menu = document.querySelector(".menu");
const wide = matchMedia("(min-width: 68rem)");
const fold = () => { menu.open = wide.matches; };
fold();
wide.addEventListener("change", fold);
menu.querySelector("nav").addEventListener("click", (event) => {
  if (event.target.closest("a") && !wide.matches) menu.open = false;
});

const links = [...menu.querySelectorAll("nav a")];
const spy = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const link = links.find((a) => a.hash === "#" + entry.target.id);
    if (!link || !entry.isIntersecting) continue;
    for (const other of links) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const part of document.querySelectorAll("main > .section")) spy.observe(part);

if (form) {
  form.addEventListener("change", (event) => {
    chosen[event.target.name] = event.target.value;
    event.target.classList.toggle("set", Boolean(event.target.value));
    filterAll();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    for (const key of Object.keys(chosen)) delete chosen[key];
    for (const select of form.querySelectorAll("select")) select.classList.remove("set");
    filterAll();
  });
}
watch();
