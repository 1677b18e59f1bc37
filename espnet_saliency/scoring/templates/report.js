// Tables sort by the buttons in their headers; without this script they are read as they are.
"use strict";

function sortKey(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  if (!cell.classList.contains("number")) return (value || cell.textContent).trim();
  return value === undefined || value === "" ? null : Number(value);
}

function compareKeys(a, b) {
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

function sortBy(table, header, column) {
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [sortKey(row, column), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);  // empty cells stay last
    return up ? compareKeys(a, b) : compareKeys(b, a);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(table, header, column));
    header.append(button);
  });
}

// Paper cannot be unfolded.
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
