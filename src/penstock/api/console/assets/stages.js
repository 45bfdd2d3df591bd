// The strip of each worker: a column for every look at it, with as many cells as tasks were in each stage.
const LOOKS = 90;
const SVG = "http://www.w3.org/2000/svg";
const seen = new Map(); // looks by worker, the last one at the end

export function startStages() {
  look();
  document.addEventListener("htmx:afterSettle", look);
}

function look() {
  for (const strip of document.querySelectorAll("[data-stages]:empty")) {
    const { stages, worker, slots } = strip.dataset;
    const now = stages.split(" ").map((one) => one.split(":")).map(([stage, count]) => [stage, Number(count)]);
    const looks = [...(seen.get(worker) ?? []), now].slice(-LOOKS);
    seen.set(worker, looks);
    strip.append(drawn(looks, Math.max(1, Number(slots))), caption(looks));
  }
}

function drawn(looks, slots) {
  const svg = made("svg", { viewBox: `0 0 ${LOOKS} ${slots}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  looks.forEach((counts, place) => {
    let below = slots;
    for (const [stage, count] of counts) {
      if (!count) continue;
      below -= count;
      svg.append(made("rect", { class: `stage-${stage}`, x: LOOKS - looks.length + place, y: below, width: 0.85, height: count }));
    }
  });
  return svg;
}

// What part of the tasks' time each stage had: the largest is where the worker's time goes.
function caption(looks) {
  const line = document.createElement("figcaption");
  const sums = new Map();
  for (const [stage, count] of looks.flat()) sums.set(stage, (sums.get(stage) ?? 0) + count);
  const all = [...sums.values()].reduce((sum, count) => sum + count, 0);
  const busy = looks.filter((counts) => counts.some(([, count]) => count)).length;
  line.append(looks.length === 1 ? "Looked at for the first time" : `Busy in ${Math.round((100 * busy) / looks.length)} % of ${looks.length} looks`);
  for (const [stage, count] of [...sums].filter(([, count]) => count).sort((one, other) => other[1] - one[1])) {
    const part = document.createElement("span");
    const words = document.createElement("b");
    part.className = `stage-${stage}`;
    words.textContent = `${stage} ${Math.round((100 * count) / all)} %`;
    part.append(words);
    line.append(part);
  }
  return line;
}

function made(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
