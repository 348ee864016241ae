(() => {
  "use strict";
  const table = document.getElementById("variants");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const choice = document.getElementById("sort-by");
  const turn = document.getElementById("sort-turn");
  const said = document.getElementById("sorted");

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (heads[column].dataset.kind === "text") return cell.textContent.trim();
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  };

  // Rows without a value come last, whichever way the others are sorted.
  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      if (typeof a === "string") return sign * a.localeCompare(b, undefined, { numeric: true });
      return sign * (a - b);
    });
    body.append(...rows.map(([, row]) => row));
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    choice.value = String(column);
    turn.textContent = direction === "ascending" ? "▲" : "▼";
    const name = heads[column].textContent.trim();
    turn.setAttribute("aria-label", `sorted ${direction}, turn around`);
    said.textContent = `sorted by ${name}, ${direction}`;
  };

  const other = { ascending: "descending", descending: "ascending" };
  const next = (column) => {
    const now = heads[column].getAttribute("aria-sort");
    return now ? other[now] : heads[column].dataset.first;
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(column, next(column)));
  });
  choice.addEventListener("change", () => {
    const column = Number(choice.value);
    sort(column, heads[column].dataset.first);
  });
  turn.addEventListener("click", () => {
    const column = Number(choice.value);
    sort(column, next(column));
  });

  // A dot of a chart leads to its row, and the row's number to its panel, which opens.
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
