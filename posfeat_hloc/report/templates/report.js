"use strict";
// Tables: a click on a title sorts by its column, numbers by value; a second click reverses the order.
addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const title = button.parentElement;
      const body = title.closest("table").tBodies[0];
      const column = title.cellIndex;
      const down = title.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].textContent.trim();
      const number = (row) => parseFloat(value(row).replaceAll(" ", ""));
      const rows = [...body.rows];
      const numeric = rows.some((row) => row.cells[column].classList.contains("number"));
      const compare = (a, b) => {
        if (!numeric) return value(a).localeCompare(value(b), undefined, {numeric: true});
        const [x, y] = [number(a), number(b)];
        return (isNaN(x) ? -Infinity : x) - (isNaN(y) ? -Infinity : y);
      };
      rows.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      for (const other of title.parentElement.cells) other.removeAttribute("aria-sort");
      title.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  }
});

// A click on a 3D point lists the images that see it, with links to their thumbnails.
function showImagesOfPoints(id, names, anchors) {
  const graph = document.getElementById(id);
  const list = document.createElement("div");
  list.className = "seen";
  list.setAttribute("aria-live", "polite");
  graph.after(list);
  graph.on("plotly_click", (event) => {
    const {curveNumber, pointNumber} = event.points[0];
    if (curveNumber !== 0) return;
    const seen = graph.data[0].customdata[pointNumber];
    list.replaceChildren(`Seen in ${seen.length} images:`);
    for (const number of seen) {
      const name = names[number];
      const tile = anchors[name] && document.getElementById(anchors[name]);
      const entry = document.createElement(tile ? "a" : "span");
      if (tile) {
        entry.href = `#${anchors[name]}`;
        const image = document.createElement("img");
        image.src = tile.querySelector("img").src;
        image.alt = "";
        entry.append(image);
      }
      entry.append(name);
      list.append(entry);
    }
  });
}
