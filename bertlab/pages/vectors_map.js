// The map of a file of vectors: it is zoomed, moved and searched, a text is chosen and its nearest shown. Draws into the marks that are on the
// page without it, from the numbers that the page holds, and asks nobody.

const FOUND = 20; // texts of a search that are listed
const REACH = 14; // pixels from a mark within which the pointer means it
const CLOSEST = 80; // times as large as the whole
const LEAST = 1, RING = 5; // of marks and rings, in units of the whole map on a wide screen

const map = JSON.parse($("vectors").textContent);
const [WIDE, HIGH] = map.size;
const svg = document.querySelector("#map svg");
const marks = [...svg.querySelectorAll("[data-group]")];
const rings = ["of-found", "of-near", "of-chosen"].map((name) => svg.appendChild(drawn("path", { class: `ring ${name}` })));
const groups = marks.map((_, group) => map.points.flatMap((_, n) => (map.groups[n] === group ? [n] : [])));
const small = map.points.map((_, n) => `${map.ids[n]}\n${map.texts ? map.texts[n] : ""}`.toLowerCase());

let scale = 1; // a point (x, y) of the whole map is drawn at (x * scale + left, y * scale + top)
let left = 0;
let top_ = 0;
let chosen = null;
let found = [];
let only = null; // the group that is shown alone

const said = (n) => inert((map.texts && map.texts[n]) || map.ids[n]);
const label = (n) => (map.labels && map.labels[n] !== null ? inert(map.labels[n]) : "-");
const at = (n) => [map.points[n][0] * scale + left, map.points[n][1] * scale + top_];
const isShown = (n) => only === null || map.groups[n] === only;
const isInside = ([x, y]) => x > -RING && x < WIDE + RING && y > -RING && y < HIGH + RING;

// ---- drawing

function draw() {
  const size = Math.min(3, Math.max(LEAST, (0.9 * WIDE) / (svg.getBoundingClientRect().width || WIDE)) * scale ** 0.2); // of a mark
  const place = (n) => at(n).map((each) => (each / size).toFixed(2)).join(" ");
  marks.forEach((mark, group) => {
    const inside = groups[group].filter((n) => isShown(n) && isInside(at(n)));
    mark.setAttribute("transform", `scale(${size})`);
    mark.setAttribute("d", inside.map((n) => `M${place(n)}${map.shapes[group % map.shapes.length]}`).join(""));
  });
  const ring = (n) => `M${place(n)}m-${RING} 0a${RING} ${RING} 0 1 0 ${2 * RING} 0a${RING} ${RING} 0 1 0-${2 * RING} 0z`;
  [found, chosen === null ? [] : map.near[chosen], chosen === null ? [] : [chosen]].forEach((ringed, number) => {
    rings[number].setAttribute("transform", `scale(${size})`);
    rings[number].setAttribute("d", ringed.filter((n) => isInside(at(n))).map(ring).join(""));
  });
  $("map").classList.toggle("zoomed", scale > 1);
  $("closer").disabled = scale >= CLOSEST;
  $("further").disabled = $("whole").disabled = scale <= 1;
}

// Larger or smaller by `times`, with the point (x, y) of the drawing where it is; the whole map is the smallest.
function zoom(times, x = WIDE / 2, y = HIGH / 2) {
  const before = scale;
  scale = Math.max(1, Math.min(CLOSEST, scale * times));
  move((x - left) * (1 - scale / before), (y - top_) * (1 - scale / before));
}

function move(right, down) {
  left = Math.min(0, Math.max(WIDE * (1 - scale), left + right));
  top_ = Math.min(0, Math.max(HIGH * (1 - scale), top_ + down));
  draw();
}

function whole() {
  zoom(1 / scale);
}

// ---- which text

function nearestTo(x, y) {
  const reach = (REACH * WIDE) / (svg.getBoundingClientRect().width || WIDE);
  let best = null;
  let least = reach * reach;
  map.points.forEach((_, n) => {
    if (!isShown(n)) return;
    const [a, b] = at(n);
    const far = (a - x) ** 2 + (b - y) ** 2;
    if (far < least) [best, least] = [n, far];
  });
  return best;
}

function choose(n, focus = true) {
  chosen = n;
  const [x, y] = at(n);
  if (x < 0 || x > WIDE || y < 0 || y > HIGH) move(WIDE / 2 - x, HIGH / 2 - y);
  else draw();
  const rows = map.near[n].map((other, place) => [button(other), map.cosines[n][place].toFixed(3), word(label(other)), word(map.ids[other])]);
  const heading = make("h3", { tabindex: "-1" }, "The chosen text");
  const its = soft("id ", word(map.ids[n]), ...(map.labels ? [", label ", word(label(n))] : []));
  const nearest = rows.length ? [table(["nearest texts", "cosine", "label", "id"], rows, "texts nearest to the chosen one")] : [];
  $("chosen").replaceChildren(heading, make("p", { dir: "auto" }, word(said(n))), its, ...nearest);
  if (focus) heading.focus();
}

const button = (n) => make("button", { type: "button", class: "text-button", onclick: () => choose(n) }, word(said(n)));

function search() {
  const asked = $("search").value.trim().toLowerCase();
  found = asked ? small.flatMap((text, n) => (text.includes(asked) && isShown(n) ? [n] : [])) : [];
  const some = found.length > FOUND ? `, the first ${FOUND} of them here` : "";
  $("count").textContent = asked ? `${found.length} of the texts on the map have it${some}` : "";
  $("found").replaceChildren(...found.slice(0, FOUND).map((n) => make("li", null, button(n))));
  draw();
}

// ---- the whole

// Where an event is, in units of the drawing.
function inDrawing(event) {
  const box = svg.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * WIDE, ((event.clientY - box.top) / box.height) * HIGH];
}

function listen() {
  const box = $("map");
  const hint = $("map-hint").textContent;
  let from = null; // where a drag began, and whether it moved
  $("closer").addEventListener("click", () => zoom(2));
  $("further").addEventListener("click", () => zoom(0.5));
  $("whole").addEventListener("click", whole);
  $("search").addEventListener("input", search);
  $("only").addEventListener("change", () => { only = $("only").value === "" ? null : Number($("only").value); search(); });
  box.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => move(WIDE / 8, 0), ArrowRight: () => move(-WIDE / 8, 0), ArrowUp: () => move(0, HIGH / 8), ArrowDown: () => move(0, -HIGH / 8),
      "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5), 0: whole,
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  box.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(2 ** (-event.deltaY / 200), ...inDrawing(event));
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => { from = { at: inDrawing(event), moved: false }; });
  box.addEventListener("pointermove", (event) => {
    const [x, y] = inDrawing(event);
    if (from && event.buttons) {
      if (!from.moved && Math.hypot(x - from.at[0], y - from.at[1]) < 4) return;
      if (!from.moved) box.setPointerCapture(event.pointerId);
      move(x - from.at[0], y - from.at[1]);
      from = { at: [x, y], moved: true };
      return;
    }
    const n = nearestTo(x, y);
    $("map-hint").replaceChildren(n === null ? hint : word(said(n)));
  });
  box.addEventListener("pointerup", (event) => {
    const n = from && !from.moved ? nearestTo(...inDrawing(event)) : null;
    from = null;
    if (n !== null) choose(n, false);
  });
  box.addEventListener("pointercancel", () => { from = null; });
  addEventListener("resize", draw);
}

for (const each of document.querySelectorAll("[data-script]")) each.hidden = each.dataset.script === "without";
$("map").tabIndex = 0;
$("map").setAttribute("role", "application");
listen();
draw();
