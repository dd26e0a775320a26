// The map of voices: a point for each enrolled speaker, as SVG. The list of speakers says in words who sounds alike.
import { strings } from "./strings.js";

const SIZE = { width: 480, height: 300, edge: 36 };
const FONT = 18; // as in the style; names that would cover others are left out
const MAX_NAMED = 60;

function drawnIn(place, tag, attributes, text) {
  const made = document.createElementNS(place.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

export function drawMap(place, found, heard) {
  place.setAttribute("viewBox", `0 0 ${SIZE.width} ${SIZE.height}`);
  place.setAttribute("aria-label", strings.mapOf(found.points.length));
  const across = (x) => SIZE.width / 2 + x * (SIZE.width / 2 - SIZE.edge);
  const down = (y) => SIZE.height / 2 - y * (SIZE.height / 2 - SIZE.edge);
  const drawn = (...given) => drawnIn(place, ...given);
  const taken = [];
  place.replaceChildren(
    ...found.points.map((point) => {
      const [x, y] = [across(point.x), down(point.y)];
      const group = drawn("g", { class: point.name === heard ? "heard" : "" });
      group.append(drawn("title", {}, point.name), drawn("circle", { cx: x, cy: y, r: point.name === heard ? 9 : 6 }));
      const name = point.name.length > 20 ? `${point.name.slice(0, 19)}…` : point.name;
      const half = 0.28 * FONT * name.length;
      const middle = Math.min(Math.max(x, half), SIZE.width - half);
      const line = [y - 14, y + 14 + FONT * 0.7].find((base) =>
        taken.every(([other, at, width]) => Math.abs(other - middle) > half + width || Math.abs(at - base) > FONT),
      );
      if (line !== undefined && taken.length < MAX_NAMED) {
        taken.push([middle, line, half]);
        group.append(drawn("text", { x: middle, y: line, "text-anchor": "middle" }, name));
      }
      return group;
    }),
  );
}
