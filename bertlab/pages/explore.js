// The page of bertlab explore. Whatever comes from a model, a text or a file is set as text (elements.js). Asks only the server that it came
// from; as a snapshot it asks nobody and shows what it holds.

const SHOWN = 10; // rows of a table of tokens
const snapshot = $("snapshot") ? JSON.parse($("snapshot").textContent) : null;

let about = null;
let seen = null; // what was looked at: tokens, gaps, next, answer, and weights
let asked = { text: "", text_b: null, masked: [] };
let chosen = 0; // the token whose attention is shown
let parted = null; // a word's vectors in its contexts
let turn = 0; // of the last question: an answer to an earlier one is not shown

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const meter = (share, label) => make("meter", { min: 0, max: 1, value: share, "aria-label": label });
const section = (heading, ...inner) => make("section", { "aria-label": heading }, make("h2", null, heading), ...inner);

// ---- asking

async function ask(name, what) {
  const reply = await fetch(`/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Bertlab-Token": location.hash.slice(1) },
    body: JSON.stringify(what),
  });
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

// Asks and shows what comes, unless something else was asked meanwhile; says how long it took, or what is wrong.
async function answered(name, what, show) {
  const own = (turn += 1);
  const began = performance.now();
  $("status").textContent = "computing …";
  $("error").hidden = true;
  try {
    const found = await ask(name, what);
    if (own !== turn) return;
    show(found);
    $("status").textContent = `answered in ${Math.round(performance.now() - began)} ms`;
  } catch (error) {
    if (own !== turn) return;
    $("status").textContent = "";
    $("error").textContent = inert(error.message);
    $("error").hidden = false;
  }
}

// ---- one text

function look() {
  asked = { ...asked, text: $("text").value, text_b: $("text_b").value.trim() ? $("text_b").value : null };
  answered("look", asked, (found) => {
    keep(found);
    $("why").replaceChildren();
    $("near").replaceChildren();
    if (about.index) near();
  });
}

function keep(found) {
  const packed = found.attention;
  const bytes = Uint8Array.from(atob(packed.weights), (each) => each.charCodeAt(0));
  seen = { ...found, layers: packed.layers, heads: packed.heads, length: found.tokens.length, weights: bytes };
  chosen = Math.min(chosen, seen.length - 1);
  show();
}

function show() {
  $("found").hidden = false;
  const cut = seen.cut ? `${seen.cut} tokens beyond the ${seen.length} that are looked at were cut.` : "";
  $("cut").textContent = cut;
  showTokens();
  showAttention();
  drawHeads();
  $("gaps").replaceChildren(...(seen.gaps.length ? [section("Masked places", ...seen.gaps.map(gap))] : []));
  $("next").replaceChildren(...(seen.next ? [section("Next sentence", nextSentence())] : []));
  $("answer").replaceChildren(...(seen.answer ? [section("Answer", ...answer())] : []));
}

function showTokens() {
  const buttons = seen.tokens.map((token, place) =>
    make(
      "button",
      {
        type: "button",
        class: `token${token.segment ? " of-second" : ""}${"was" in token ? " masked" : ""}`,
        "aria-pressed": String(place === chosen),
        tabindex: place === chosen ? "0" : "-1",
        "data-place": place,
        onclick: () => choose(place),
      },
      word(token.text),
    ),
  );
  $("tokens").replaceChildren(...buttons);
}

function choose(place, focus) {
  chosen = Math.max(0, Math.min(seen.length - 1, place));
  for (const button of $("tokens").children) {
    const own = Number(button.dataset.place) === chosen;
    button.setAttribute("aria-pressed", String(own));
    button.tabIndex = own ? 0 : -1;
    if (own && focus) button.focus();
  }
  showAttention();
}

function mask() {
  const masked = asked.masked.includes(chosen) ? asked.masked.filter((each) => each !== chosen) : [...asked.masked, chosen];
  asked = { ...asked, masked };
  const again = document.activeElement === $("mask");
  answered("look", asked, (found) => {
    keep(found);
    if (again) $("mask").focus();
  });
}

function gap(found) {
  const rows = found.words.map((each) => [word(each.word), percent(each.probability), meter(each.probability, "probability")]);
  const name = `${found.place}: ${inert(seen.tokens[found.place].text)}`;
  const was = found.was ? [soft("It was ", word(found.was.word), `, which has ${percent(found.was.probability)} here.`)] : [];
  return make("div", { class: "gap" }, make("h3", null, name), table(["word", "probability", ""], rows, `words for place ${found.place}`), ...was);
}

function nextSentence() {
  const share = seen.next.follows;
  return make("p", { id: "follows" }, `The second text follows the first: ${percent(share)} `, meter(share, "it follows"));
}

// ---- attention

// The weight with which token `from` reads token `to`; head -1 is the mean of all.
function weight(layer, head, from, to) {
  const at = (each) => seen.weights[((layer * seen.heads + each) * seen.length + from) * seen.length + to] / 255;
  if (head >= 0) return at(head);
  let total = 0;
  for (let each = 0; each < seen.heads; each += 1) total += at(each);
  return total / seen.heads;
}

const settings = () => ({ layer: Number($("layer").value), head: Number($("head").value), reads: $("direction").value === "reads" });

function showAttention() {
  const { layer, head, reads } = settings();
  const shares = seen.tokens.map((_, other) => (reads ? weight(layer, head, chosen, other) : weight(layer, head, other, chosen)));
  for (const button of $("tokens").children) {
    const share = shares[Number(button.dataset.place)];
    button.style.setProperty("--share", Math.sqrt(share));
    button.title = percent(share);
  }
  const token = seen.tokens[chosen];
  $("chosen").replaceChildren(
    reads ? "What " : "What reads ", word(token.text), ` (place ${chosen})`, reads ? " reads" : "", `, layer ${layer + 1}, `,
    head < 0 ? "mean of all heads" : `head ${head + 1}`,
  );
  const order = shares.map((share, place) => [share, place]).sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, SHOWN);
  const rows = order.map(([share, place]) => [word(seen.tokens[place].text), String(place), percent(share), meter(share, "attention")]);
  $("weights").replaceChildren(table(["token", "place", "attention", ""], rows, "attention of the chosen token, largest first"));
  $("mask").disabled = !about.words || token.frame || snapshot !== null;
  $("mask").textContent = "was" in token ? "Show this token again" : "Mask this token";
  drawMatrix(layer, head);
  $("chosen-head").textContent = `layer ${layer + 1} of ${seen.layers}, ${head < 0 ? "mean of all heads" : `head ${head + 1} of ${seen.heads}`}`;
}

function drawMatrix(layer, head) {
  const canvas = $("matrix");
  canvas.width = canvas.height = seen.length;
  const image = new ImageData(seen.length, seen.length);
  paint(image, 0, 0, seen.length, (row, column) => weight(layer, head, row, column));
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", `attention of ${$("chosen-head").textContent}: rows read columns`);
}

// Squares of `size` pixels at (left, top), each of the largest weight of its share of the tokens; the shade is its square root.
function paint(image, left, top, size, at) {
  const [red, green, blue] = getComputedStyle(document.body).getPropertyValue("--heat").trim().split(/\s+/).map(Number);
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const place = 4 * ((top + row) * image.width + left + column);
      image.data.set([red, green, blue, 255 * Math.sqrt(at(row, column))], place);
    }
  }
}

const THUMB = 24; // pixels of a head's picture among all; of a longer text each pixel is the largest weight of its share
const GAP = 4;

function drawHeads() {
  const canvas = $("heads");
  const size = Math.min(THUMB, seen.length);
  const step = size + GAP;
  canvas.width = seen.heads * step - GAP;
  canvas.height = seen.layers * step - GAP;
  const image = new ImageData(canvas.width, canvas.height);
  const bound = (place) => Math.floor((place * seen.length) / size);
  for (let layer = 0; layer < seen.layers; layer += 1) {
    for (let head = 0; head < seen.heads; head += 1) {
      paint(image, head * step, layer * step, size, (row, column) => {
        let most = 0;
        for (let from = bound(row); from < bound(row + 1); from += 1) {
          for (let to = bound(column); to < bound(column + 1); to += 1) most = Math.max(most, weight(layer, head, from, to));
        }
        return most;
      });
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The place of a click on a canvas, in its own pixels.
function clicked(event) {
  const box = event.target.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * event.target.width, ((event.clientY - box.top) / box.height) * event.target.height];
}

// ---- the task's answer, and what weighed on it

function answer() {
  const found = seen.answer;
  if (found.note) return [soft(found.note)];
  if ("value" in found) return [make("p", null, `${found.value.toPrecision(4)} `, whyButton(null))];
  if ("text" in found) return [make("p", null, found.text ? word(found.text) : "no answer in the text", ` (${percent(found.probability)})`)];
  if (found.tags) {
    const rows = found.tags.map((tag, place) => [word(seen.tokens[place].text), word(tag.label), percent(tag.probability)]);
    return [table(["token", "tag", "probability"], rows.filter((_, place) => !seen.tokens[place].frame), "tags")];
  }
  const rows = found.classes.map((each) => [
    word(each.label), percent(each.probability), meter(each.probability, "probability"), whyButton(each.label),
  ]);
  return [table(["class", "probability", "", "why"], rows, "classes, likeliest first")];
}

function whyButton(label) {
  if (snapshot) return "";
  const why = () => answered("attribute", { text: asked.text, text_b: asked.text_b, label }, showWhy);
  return make("button", { type: "button", onclick: why, "aria-label": label === null ? "why" : `why ${inert(label)}` }, "Why?");
}

function showWhy(found) {
  const most = Math.max(...found.shares.map(Math.abs), 1e-12);
  const tokens = found.tokens.map((token, place) => {
    const share = found.shares[place];
    const each = make("span", { class: `token ${share < 0 ? "against" : "for"}`, title: share.toFixed(4) }, word(token));
    each.style.setProperty("--share", Math.sqrt(Math.abs(share) / most));
    return each;
  });
  const order = found.shares.map((share, place) => [share, place]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, SHOWN);
  const rows = order.map(([share, place]) => [word(found.tokens[place]), String(place), share.toFixed(4)]);
  const of = found.label === null ? ["The number"] : ["Log-probability of ", word(found.label)];
  const sums = make(
    "p", null, ...of, `: ${found.answer.toFixed(3)}; of the same text with every token masked: ${found.answer_of_masks.toFixed(3)}. `,
    `The tokens' shares sum to the difference but for ${found.missed.toFixed(4)}.`,
  );
  const how = soft(`Integrated gradients from the masked text, ${found.points} points. Blue speaks for it, orange against it.`);
  $("why").replaceChildren(section("What weighed on it", make("p", { class: "tokens" }, ...tokens), sums, how, table(["token", "place", "share"], rows, "largest shares")));
}

// ---- nearest texts

async function near() {
  const own = turn;
  try {
    const found = await ask("near", { text: asked.text });
    if (own === turn) showNear(found);
  } catch (error) {
    if (own === turn) $("near").replaceChildren(section("Nearest texts", make("p", { class: "wrong" }, inert(error.message))));
  }
}

function showNear(found) {
  const rows = found.map((each) => [each.text === null ? word(each.id) : word(each.text), each.cosine.toFixed(3), word(each.id)]);
  $("near").replaceChildren(section("Nearest texts", table(["text", "cosine", "id"], rows, "nearest texts of the index")));
}

// ---- a word in its contexts

function part() {
  const groups = $("contexts").value.split(/\n\s*\n/).map((group) => group.split("\n").map((line) => line.trim()).filter(Boolean));
  answered("contexts", { word: $("word").value, groups: groups.filter((group) => group.length) }, keepParted);
}

function keepParted(found) {
  parted = found;
  $("depth").max = found.points.length - 1;
  $("depth").value = found.points.length - 1;
  $("parted").hidden = false;
  showContexts();
  showParted();
}

const SHAPES = [
  (x, y) => drawn("circle", { cx: x, cy: y, r: 8 }),
  (x, y) => drawn("rect", { x: x - 7, y: y - 7, width: 14, height: 14 }),
  (x, y) => drawn("path", { d: `M${x} ${y - 9}l9 16h-18z` }),
  (x, y) => drawn("path", { d: `M${x} ${y - 10}l10 10l-10 10l-10 -10z` }),
];

function showParted() {
  const layer = Number($("depth").value);
  const points = parted.points[layer];
  const [wide, high, edge] = [480, 320, 24];
  const reach = (axis) => Math.max(...points.map((point) => Math.abs(point[axis])), 1e-9);
  const [reachX, reachY] = [reach(0), reach(1)];
  const marks = points.map(([x, y], number) => {
    const [left, top] = [wide / 2 + (x / reachX) * (wide / 2 - edge), high / 2 - (y / reachY) * (high / 2 - edge)];
    const group = parted.contexts[number].group;
    const label = drawn("text", { x: left + 11, y: top + 4 }, String(number + 1));
    const said = drawn("title", {}, `${number + 1}: ${inert(parted.contexts[number].text)}`);
    return drawn("g", { class: `mark c${group % 8}` }, said, SHAPES[group % SHAPES.length](left, top), label);
  });
  const label = `the word's vectors in layer ${layer}, by their two principal components`;
  $("map").replaceChildren(drawn("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label }, ...marks));
  const name = layer === 0 ? "the embeddings (no context yet)" : `layer ${layer} of ${parted.points.length - 1}`;
  $("depth-name").textContent = `${name}: the two axes show ${percent(parted.shown[layer])} of the variance`;
  $("depth").setAttribute("aria-valuetext", name);
}

function showContexts() {
  const items = parted.contexts.map((each) =>
    make("li", { class: `c${each.group % 8}` }, make("span", { class: "plain-text" }, word(each.before), make("mark", null, word(each.word)), word(each.after))),
  );
  $("list").replaceChildren(...items);
  const cosine = (value) => (value === null ? "-" : value.toFixed(3));
  const rows = parted.points.map((_, layer) => [String(layer), percent(parted.shown[layer]), cosine(parted.within[layer]), cosine(parted.between[layer])]);
  const columns = ["layer", "variance shown", "cosine within a group", "between groups"];
  $("by-layer").replaceChildren(table(columns, rows, "how the groups part, layer by layer"));
}

// ---- the whole

function options(select, names) {
  select.replaceChildren(...names.map(([value, name]) => make("option", { value }, name)));
}

function begin(found) {
  about = found;
  $("name").textContent = inert(found.name);
  $("kind").textContent = `${found.layers} layers of ${found.heads} heads; ${found.can}. Up to ${found.longest} tokens of a text are looked at.`;
  const numbered = (count) => Array.from({ length: count }, (_, number) => [String(number), String(number + 1)]);
  options($("layer"), numbered(found.layers));
  options($("head"), [["-1", "all, their mean"], ...numbered(found.heads)]);
  $("layer").value = String(found.layers - 1);
  $("mask-hint").hidden = !found.words;
}

function listen() {
  const submitted = (form, act) => $(form).addEventListener("submit", (event) => { event.preventDefault(); act(); });
  submitted("ask", () => { asked = { ...asked, masked: [] }; look(); });
  submitted("ask-word", part);
  for (const id of ["layer", "head", "direction"]) $(id).addEventListener("change", showAttention);
  $("mask").addEventListener("click", mask);
  $("depth").addEventListener("input", showParted);
  $("text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit(); });
  $("tokens").addEventListener("keydown", (event) => {
    const to = { ArrowLeft: chosen - 1, ArrowRight: chosen + 1, Home: 0, End: seen.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to, true);
  });
  $("matrix").addEventListener("click", (event) => choose(Math.floor(clicked(event)[1])));
  $("heads").addEventListener("click", (event) => {
    const step = Math.min(THUMB, seen.length) + GAP;
    const [x, y] = clicked(event);
    $("layer").value = String(Math.min(seen.layers - 1, Math.floor(y / step)));
    $("head").value = String(Math.min(seen.heads - 1, Math.floor(x / step)));
    showAttention();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (seen) { showAttention(); drawHeads(); } });
}

listen();
if (snapshot) {
  begin(snapshot.about);
  $("mask").hidden = true;
  $("given").hidden = false;
  $("given").replaceChildren(word(snapshot.text), ...(snapshot.text_b === null ? [] : [make("br"), word(snapshot.text_b)]));
  keep(snapshot.looked);
  if (snapshot.why) showWhy(snapshot.why);
  if (snapshot.near) showNear(snapshot.near);
  if (snapshot.parted) keepParted(snapshot.parted);
  $("words").hidden = !snapshot.parted;
} else {
  answered("about", {}, begin);
}
