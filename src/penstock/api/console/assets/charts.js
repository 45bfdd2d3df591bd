// Curves over time with axes, drawn from the data in `data-chart` in the colours of the page.
const HEIGHT = 190;

export function startCharts() {
  if (!window.uPlot) return;
  drawAll();
  document.addEventListener("htmx:afterSettle", drawAll);
  document.addEventListener("themed", redraw);
  addEventListener("resize", redraw);
}

function redraw() {
  for (const box of document.querySelectorAll("[data-chart]")) box.replaceChildren();
  drawAll();
}

function drawAll() {
  for (const box of document.querySelectorAll("[data-chart]")) if (!box.firstChild) draw(box, JSON.parse(box.dataset.chart));
}

function draw(box, { x, series }) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: box.clientWidth || 320,
    height: HEIGHT,
    cursor: { points: { size: 7 } },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [{ ...axis, space: 60, values: (_, moments) => moments.map(clock) }, { ...axis, size: 46 }],
    series: [
      { label: "at", value: (_, moment) => (moment ? clock(moment) : "–") },
      ...series.map(({ name }, n) => ({ label: name, stroke: colour(`--series-${n + 1}`), width: 1.8, points: { show: x.length < 4 } })),
    ],
  };
  new uPlot(options, [x, ...series.map(({ y }) => y)], box);
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}
