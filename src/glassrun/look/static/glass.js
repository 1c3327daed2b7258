// What people touch: `draw(element, payload)` shows one view and returns the function that takes it away again.
// The report has this file inside, the explorer and notebooks import it. No framework, no build step, no network.
//
// A payload is what `glassrun.look.views.payload` makes: {kind, values, arrays: {name: {type, shape, data}}}.

const VIEWS = { attention, heatmap, pictures, curves, choice };

export function draw(element, payload) {
  const end = new AbortController();
  const root = append(element, "div", { className: "glass" });
  const view = decode(payload);
  VIEWS[view.kind](root, view, end.signal);
  return () => {
    end.abort(); // every listener and observer goes with it
    root.remove();
  };
}

// The payload with its arrays as numbers: {shape, data: Float32Array}. What is decoded already stays.
export function decode(payload) {
  const arrays = {};
  for (const [name, { type, shape, data }] of Object.entries(payload.arrays))
    arrays[name] = { shape, data: typeof data === "string" ? numbers(type, data) : data };
  return { ...payload, arrays };
}

function numbers(type, base64) {
  const text = atob(base64);
  const view = new DataView(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
  const wide = type === "float32" ? 4 : 2;
  const read = wide === 4 ? (place) => view.getFloat32(place, true) : (place) => half(view.getUint16(place, true));
  return Float32Array.from({ length: text.length / wide }, (_, index) => read(index * wide));
}

// The value of 16 bits of IEEE 754: one of sign, five of exponent, ten of fraction.
function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

// The last two axes at the given place of the first ones.
function plane(array, ...place) {
  const [rows, columns] = array.shape.slice(-2);
  const index = place.reduce((sum, at, axis) => sum * array.shape[axis] + at, 0);
  return { rows, columns, data: array.data.subarray(index * rows * columns, (index + 1) * rows * columns) };
}

// ---- Colours ----------------------------------------------------------------------------------------------------

// The anchors of Matplotlib's maps of these names (ColorBrewer's); between them it goes in straight lines.
const ANCHORS = {
  Blues: "f7fbff deebf7 c6dbef 9ecae1 6baed6 4292c6 2171b5 08519c 08306b",
  RdBu_r: "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f",
  gray: "000000 ffffff",
};
// Okabe and Ito's, as in the static figures.
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

// 256 colours of red, green and blue, from the lowest value to the highest.
export function colours(name) {
  const anchors = ANCHORS[name].split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, index) => {
    const place = (index / 255) * (anchors.length - 1);
    const below = Math.min(Math.floor(place), anchors.length - 2);
    return anchors[below].map((value, channel) => value + (anchors[below + 1][channel] - value) * (place - below));
  });
}

// The same as whole pixels, whose lowest byte is red.
function palette(name) {
  const pixel = ([red, green, blue]) => (255 << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);
  return Uint32Array.from(colours(name), pixel);
}

// One pixel for each value; what has none (NaN) stays clear.
function paint({ rows, columns, data }, { low, high, palette }) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const scale = 256 / (high - low || 1);
  for (let index = 0; index < data.length; index++) {
    const value = data[index];
    if (value === value) pixels[index] = palette[Math.max(0, Math.min(255, Math.floor((value - low) * scale)))];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// From the smallest value to the largest; a signed scale has zero in its middle.
function scaleOf(array, signed, positive = "gray") {
  let low = Infinity;
  let high = -Infinity;
  for (const value of array.data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) low = high = 0;
  if (signed) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
  return { low, high, palette: palette(signed ? "RdBu_r" : positive) };
}

// ---- Small pieces of a page -------------------------------------------------------------------------------------

function append(parent, tag, properties = {}, attributes = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

function select(parent, title, names, signal, chosen) {
  const label = append(parent, "label", { textContent: `${title} ` });
  const element = append(label, "select");
  names.forEach((name, index) => append(element, "option", { textContent: name, value: index }));
  element.addEventListener("change", () => chosen(Number(element.value)), { signal });
  return element;
}

function slider(parent, steps, signal, chosen) {
  const label = append(parent, "label", { textContent: "step " });
  const properties = { type: "range", min: 0, max: steps.length - 1, step: 1, value: steps.length - 1 };
  const range = append(label, "input", properties);
  const shown = append(label, "output", { textContent: steps.at(-1) });
  const change = () => {
    shown.textContent = steps[range.value];
    range.setAttribute("aria-valuetext", `step ${steps[range.value]}`);
    chosen(Number(range.value));
  };
  range.addEventListener("input", change, { signal });
}

// A row of small pictures to choose one from; `title` is what one of them is.
function strip(parent, title, signal, chosen) {
  const row = append(parent, "div", { className: "strip" }, { role: "group", "aria-label": title });
  let buttons = [];
  const press = (at) => buttons.forEach((button, index) => button.setAttribute("aria-pressed", index === at));
  row.addEventListener(
    "click",
    (event) => {
      const at = buttons.indexOf(event.target.closest("button"));
      if (at < 0) return;
      press(at);
      chosen(at);
    },
    { signal },
  );
  return {
    press,
    show(planes, labels, scale, at) {
      if (buttons.length !== planes.length) {
        row.replaceChildren();
        buttons = planes.map(() => append(row, "button", { type: "button" }));
      }
      buttons.forEach((button, index) => {
        button.replaceChildren(thumbnail(planes[index], scale));
        append(button, "span", { textContent: labels[index] });
        button.title = `${title} ${labels[index]}`;
      });
      press(at);
    },
  };
}

function thumbnail(values, scale) {
  const side = 44 * devicePixelRatio;
  const canvas = document.createElement("canvas");
  const shrink = side / Math.max(values.rows, values.columns);
  canvas.width = Math.max(1, Math.round(values.columns * shrink));
  canvas.height = Math.max(1, Math.round(values.rows * shrink));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = shrink < 1;
  context.drawImage(paint(values, scale), 0, 0, canvas.width, canvas.height);
  return canvas;
}

// A number with a few digits, as short as it can be read.
export function shortly(value, digits = 3) {
  if (Number.isNaN(value)) return "no value";
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e6)) return value.toExponential(digits - 1).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(digits)));
}

const FONT = "11px system-ui, 'DejaVu Sans', sans-serif";
const RULER = document.createElement("canvas").getContext("2d");

function widthOf(text) {
  RULER.font = FONT;
  return RULER.measureText(text).width;
}

// Two canvases on one another: what is drawn once, and what follows the pointer. `size` gives the height for a width.
function stage(parent, label, signal, size, redraw) {
  const box = append(parent, "div", { className: "stage" });
  const attributes = { role: "img", tabindex: 0, "aria-label": label };
  const lower = append(box, "canvas", {}, attributes);
  const upper = append(box, "canvas", { className: "over" }, { "aria-hidden": "true" });
  const made = { canvas: lower, width: 0, height: 0 };

  function fit() {
    made.width = box.clientWidth;
    if (!made.width) return; // not on the page yet, or hidden: printed pages show the static picture
    made.height = size(made.width);
    for (const canvas of [lower, upper]) {
      canvas.width = Math.round(made.width * devicePixelRatio);
      canvas.height = Math.round(made.height * devicePixelRatio);
      canvas.style.height = `${made.height}px`;
    }
    const context = (canvas) => {
      const found = canvas.getContext("2d");
      found.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
      found.clearRect(0, 0, made.width, made.height);
      found.font = FONT;
      return found;
    };
    made.lower = context(lower);
    made.upper = context(upper);
    redraw();
  }
  made.fit = fit;
  made.clear = () => made.upper.clearRect(0, 0, made.width, made.height);
  made.colour = (name) => getComputedStyle(box).getPropertyValue(`--glass-${name}`);

  const observer = new ResizeObserver(() => box.clientWidth !== made.width && fit());
  observer.observe(box);
  signal.addEventListener("abort", () => observer.disconnect());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit, { signal });
  return made;
}

function readout(parent, hint) {
  const element = append(parent, "p", { className: "readout", textContent: hint }, { role: "status" });
  return (text) => (element.textContent = text || hint);
}

function bar(parent) {
  const row = append(parent, "div", { className: "bar" });
  const low = append(row, "span");
  const canvas = append(row, "canvas", { width: 256, height: 1 }, { "aria-hidden": "true" });
  const high = append(row, "span");
  const title = append(row, "span", { className: "title" });
  return (scale, name) => {
    const ramp = Float32Array.from({ length: 256 }, (_, index) => index);
    canvas.getContext("2d").drawImage(paint({ rows: 1, columns: 256, data: ramp }, { ...scale, low: 0, high: 256 }), 0, 0);
    [low.textContent, high.textContent, title.textContent] = [shortly(scale.low), shortly(scale.high), name];
  };
}

// ---- One dense map ----------------------------------------------------------------------------------------------

const LABEL = 12; // pixels from one label to the next
const TALLEST = 540;

// A map with labels on both axes. `show` takes {plane, scale, rows, columns, rowTitle, columnTitle, valueTitle, tell,
// square}; `tell(row, column)` is what the reader is told; one of the two is null on a label.
function map(parent, name, signal) {
  let shown = null;
  let painted = null;
  let at = { row: null, column: null };
  const box = {};
  const ground = stage(parent, `${name}: a map of values; the arrow keys go through its cells`, signal, size, redraw);
  const scaleBar = bar(parent);
  const say = readout(parent, "Point at a cell or a label for its value, or step through the cells with the arrow keys.");

  // Where the cells lie, for this width.
  function size(width) {
    const { plane, square, pixels } = shown;
    const widest = (labels) => Math.min(Math.max(0, ...labels.map(widthOf)), 110);
    box.left = pixels ? 0 : widest(shown.rows) + 26;
    box.top = 4;
    const across = (width - box.left - 4) / plane.columns;
    if (square) {
      box.wide = Math.min(across, 44, TALLEST / plane.rows);
      if (pixels) box.wide = Math.min(across, Math.max(380 / plane.rows, 1));
      box.high = box.wide;
    } else {
      box.wide = across;
      box.high = Math.min(Math.max(across * plane.rows, 160), 420) / plane.rows;
    }
    const room = widest(shown.columns) + 6;
    box.turned = !numbered(shown.columns) && room > box.wide;
    box.each = { row: every(shown.rows, LABEL, box.high), column: every(shown.columns, box.turned ? LABEL : room, box.wide) };
    box.bottom = pixels ? 4 : (box.turned ? widest(shown.columns) : LABEL) + 26;
    return Math.ceil(box.top + box.high * plane.rows + box.bottom);
  }

  function redraw() {
    const { plane, rows, columns } = shown;
    const context = ground.lower;
    painted = paint(plane, shown.scale);
    context.imageSmoothingEnabled = box.wide * devicePixelRatio < 1;
    const [width, height] = [box.wide * plane.columns, box.high * plane.rows];
    context.fillStyle = ground.colour("empty");
    context.fillRect(box.left, box.top, width, height);
    context.drawImage(painted, box.left, box.top, width, height);
    if (!shown.pixels) {
      context.fillStyle = ground.colour("ink");
      context.textBaseline = "middle";
      context.textAlign = "right";
      for (let row = 0; row < plane.rows; row += box.each.row)
        context.fillText(clipped(rows[row]), box.left - 5, box.top + (row + 0.5) * box.high, box.left - 24);
      for (let column = 0; column < plane.columns; column += box.each.column)
        columnLabel(context, clipped(columns[column]), box.left + (column + 0.5) * box.wide, box.top + height + 6);
      titles(context, width, height);
    }
    scaleBar(shown.scale, shown.valueTitle);
    mark();
  }

  function columnLabel(context, text, x, y) {
    context.save();
    context.translate(x, y);
    if (box.turned) context.rotate(-Math.PI / 2);
    context.textAlign = box.turned ? "right" : "center";
    context.fillText(text, 0, box.turned ? 0 : 4);
    context.restore();
  }

  function titles(context, width, height) {
    context.fillStyle = ground.colour("soft");
    context.textAlign = "center";
    context.fillText(shown.columnTitle, box.left + width / 2, box.top + height + box.bottom - 8);
    context.save();
    context.translate(8, box.top + height / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(shown.rowTitle, 0, 0);
    context.restore();
  }

  // What is pointed at; only this is drawn anew when the pointer moves.
  function mark() {
    ground.clear();
    const { plane } = shown;
    if (at.row >= plane.rows || at.column >= plane.columns) at = { row: null, column: null };
    const none = at.row === null && at.column === null;
    say(none ? "" : shown.tell(at.row, at.column));
    if (none) return;
    const context = ground.upper;
    const [width, height] = [box.wide * plane.columns, box.high * plane.rows];
    context.strokeStyle = ground.colour("mark");
    const outline = (x, y, wide, high) => context.strokeRect(x, y, Math.max(wide, 3), Math.max(high, 3));
    context.lineWidth = 1;
    if (at.row !== null) outline(box.left, box.top + at.row * box.high, width, box.high);
    if (at.column !== null) outline(box.left + at.column * box.wide, box.top, box.wide, height);
    context.lineWidth = 2.5;
    if (at.row !== null && at.column !== null)
      outline(box.left + at.column * box.wide, box.top + at.row * box.high, box.wide, box.high);
  }

  function move(row, column) {
    if (row === at.row && column === at.column) return;
    at = { row, column };
    mark();
  }

  // The place under the pointer: a cell, or the row or column of a label.
  function under(event) {
    const { plane } = shown;
    const inside = (place, count) => (place >= 0 && place < count ? place : null);
    const column = inside(Math.floor((event.offsetX - box.left) / box.wide), plane.columns);
    const row = inside(Math.floor((event.offsetY - box.top) / box.high), plane.rows);
    if (column === null && event.offsetX >= box.left) return move(null, null); // right of the map
    move(row, column);
  }

  function key(event) {
    const { plane } = shown;
    const [row, column] = [at.row ?? 0, at.column ?? 0];
    const fresh = at.row === null || at.column === null;
    const moves = {
      ArrowUp: [fresh ? row : row - 1, column],
      ArrowDown: [fresh ? row : row + 1, column],
      ArrowLeft: [row, fresh ? column : column - 1],
      ArrowRight: [row, fresh ? column : column + 1],
      Home: [row, 0],
      End: [row, plane.columns - 1],
      Escape: [null, null],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    if (down === null) return move(null, null);
    move(Math.max(0, Math.min(plane.rows - 1, down)), Math.max(0, Math.min(plane.columns - 1, right)));
  }

  ground.canvas.addEventListener("pointermove", under, { signal });
  ground.canvas.addEventListener("pointerdown", under, { signal });
  ground.canvas.addEventListener("pointerleave", () => move(null, null), { signal });
  ground.canvas.addEventListener("keydown", key, { signal });
  return (values) => {
    shown = values;
    ground.fit();
  };
}

function clipped(text) {
  return text.length > 18 ? `${text.slice(0, 17)}…` : text;
}

function numbered(labels) {
  return labels.every((label) => /^\d+$/.test(label));
}

// The how-manieth labels to show so that none lies on another; of numbers in round steps.
function every(labels, room, step) {
  const least = Math.max(1, Math.ceil(room / step));
  if (!numbered(labels) || least === 1) return least;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((by) => by * power).find((by) => by >= least);
}

function counted(labels, count) {
  return labels.length ? labels : Array.from({ length: count }, (_, index) => String(index));
}

// ---- The views --------------------------------------------------------------------------------------------------

function attention(root, { values, arrays }, signal) {
  const { layers, steps } = values;
  const chosen = { layer: 0, head: 0, frame: steps.length - 1 };
  const tools = append(root, "div", { className: "tools" });
  if (layers.length > 1)
    select(tools, "layer", layers.map((layer) => layer.name), signal, (layer) => show({ layer, head: 0 }));
  else append(tools, "span", { textContent: layers[0].name });
  if (steps.length > 1) slider(tools, steps, signal, (frame) => show({ frame }));
  const heads = strip(root, "head", signal, (head) => show({ head }));
  const draw = map(root, "attention weights", signal);
  // Zero is white; the darkest blue is the layer's largest weight in any head, at any step.
  const scales = layers.map((_, number) => ({ ...scaleOf(arrays[`weights.${number}`], false, "Blues"), low: 0 }));

  function show(change) {
    Object.assign(chosen, change);
    const layer = layers[chosen.layer];
    const weights = arrays[`weights.${chosen.layer}`];
    const count = weights.shape.at(-3);
    const scale = scales[chosen.layer];
    const of = (head) => (steps.length ? plane(weights, chosen.frame, head) : plane(weights, head));
    const planes = Array.from({ length: count }, (_, head) => of(head));
    if (!("head" in change) || "layer" in change)
      heads.show(planes, planes.map((_, head) => String(head + 1)), scale, chosen.head);
    const values = planes[chosen.head];
    draw({
      plane: values,
      scale,
      rows: layer.queries,
      columns: layer.keys,
      rowTitle: layer.query_title,
      columnTitle: layer.key_title,
      valueTitle: `attention weight, head ${chosen.head + 1} of ${count}`,
      square: true,
      tell: (row, column) => told(layer, values, row, column),
    });
  }
  show({});
}

const MOST_TOLD = 4;

// What a cell says, or a query's largest weights, or the queries that look most at a key.
function told(layer, { rows, columns, data }, row, column) {
  const [query, key] = [`${layer.query_title} “${layer.queries[row]}”`, `${layer.key_title} “${layer.keys[column]}”`];
  if (row !== null && column !== null) return `${query} → ${key}: ${shortly(data[row * columns + column])}`;
  const found =
    row !== null
      ? Array.from({ length: columns }, (_, index) => [layer.keys[index], data[row * columns + index]])
      : Array.from({ length: rows }, (_, index) => [layer.queries[index], data[index * columns + column]]);
  const largest = found.sort(([, a], [, b]) => b - a).slice(0, MOST_TOLD);
  const list = largest.map(([token, weight]) => `“${token}” ${shortly(weight)}`).join(", ");
  return row !== null ? `${query} takes most from ${list}` : `${key} gives most to ${list}`;
}

function heatmap(root, { values, arrays }, signal) {
  const shown = plane(arrays.values);
  const rows = counted(values.rows, shown.rows);
  const columns = counted(values.columns, shown.columns);
  const named = (title, label) => `${title} ${label}`;
  map(root, values.value_title, signal)({
    plane: shown,
    scale: scaleOf(arrays.values, values.signed, "Blues"),
    rows,
    columns,
    rowTitle: values.row_title,
    columnTitle: values.column_title,
    valueTitle: values.value_title,
    square: false,
    tell: (row, column) => {
      const places = [row !== null && named(values.row_title, rows[row])];
      places.push(column !== null && named(values.column_title, columns[column]));
      const place = places.filter(Boolean).join(", ");
      if (row === null || column === null) return place;
      return `${place}: ${values.value_title} ${shortly(shown.data[row * shown.columns + column])}`;
    },
  });
}

function pictures(root, { values, arrays }, signal) {
  const { groups, steps } = values;
  const chosen = { group: 0, picture: groups[0].first, frame: steps.length - 1 };
  const tools = append(root, "div", { className: "tools" });
  if (groups.length > 1)
    select(tools, "layer", groups.map((group) => group.name), signal, (group) => show({ group, picture: groups[group].first }));
  else append(tools, "span", { textContent: groups[0].name });
  const turn = (by) => {
    const count = arrays[`pictures.${chosen.group}`].shape.at(-3);
    show({ picture: (chosen.picture + by + count) % count });
  };
  for (const [text, by] of [["‹ previous", -1], ["next ›", 1]]) {
    const button = append(tools, "button", { type: "button", textContent: text });
    button.addEventListener("click", () => turn(by), { signal });
  }
  if (steps.length > 1) slider(tools, steps, signal, (frame) => show({ frame }));
  const scales = groups.map((group, number) => scaleOf(arrays[`pictures.${number}`], group.signed));
  const filters = strip(root, "filter", signal, (picture) => show({ picture }));
  const draw = map(root, "a picture", signal);

  function show(change) {
    Object.assign(chosen, change);
    const group = groups[chosen.group];
    const all = arrays[`pictures.${chosen.group}`];
    const labels = counted(group.labels, all.shape.at(-3));
    const of = (picture) => (steps.length ? plane(all, chosen.frame, picture) : plane(all, picture));
    const scale = scales[chosen.group];
    if ("group" in change || "frame" in change || !("picture" in change))
      filters.show(labels.map((_, picture) => of(picture)), labels, scale, chosen.picture);
    filters.press(chosen.picture);
    const shown = of(chosen.picture);
    draw({
      plane: shown,
      scale,
      rows: counted([], shown.rows),
      columns: counted([], shown.columns),
      valueTitle: `${group.name}, ${labels[chosen.picture]}`,
      square: true,
      pixels: true,
      tell: (row, column) =>
        row === null || column === null
          ? ""
          : `${labels[chosen.picture]}, row ${row}, column ${column}: ${shortly(shown.data[row * shown.columns + column])}`,
    });
  }
  show({});
}

function choice(root, { values, arrays }, signal) {
  const tools = append(root, "div", { className: "tools" });
  const place = append(root, "div");
  let end = null;
  signal.addEventListener("abort", () => end.abort());
  const names = values.options.map((option) => option.name);
  const element = select(tools, values.title, names, signal, show);

  function show(number) {
    end?.abort();
    end = new AbortController();
    place.replaceChildren();
    const own = Object.entries(arrays).filter(([name]) => name.startsWith(`${number}/`));
    const inside = Object.fromEntries(own.map(([name, array]) => [name.slice(name.indexOf("/") + 1), array]));
    const { kind, values: settings } = values.options[number];
    VIEWS[kind](place, { kind, values: settings, arrays: inside }, end.signal);
  }
  show(Number(element.value));
}

// ---- Curves -----------------------------------------------------------------------------------------------------

const NEAR = 12; // pixels from the pointer's place to a point that belongs to it
const PANEL = { left: 62, right: 10, gap: 32, first: 210, other: 120 };

function curves(root, { values, arrays }, signal) {
  const named = values.panels.flatMap((panel) => panel.lines.filter((line) => !line.faint).map((line) => line.name));
  const names = [...new Set(named)]; // lines of one name have one colour in all panels
  const panels = values.panels.map((panel, number) => ({
    ...panel,
    lines: panel.lines.map((line, index) => ({
      ...line,
      colour: line.faint ? null : LINES[names.indexOf(line.name) % LINES.length],
      x: arrays[`x.${number}.${index}`].data,
      y: arrays[`y.${number}.${index}`].data,
    })),
  }));
  const all = panels.flatMap((panel) => panel.lines);
  // What the readout calls a line: where panels have lines of one name, with the panel's title before it.
  const spoken = panels.flatMap(({ title, lines }) =>
    lines.map(({ name }) => (all.filter((other) => other.name === name).length > 1 ? `${title}, ${name}` : name)),
  );
  const fullest = all.reduce((most, line) => (line.x.length > most.x.length ? line : most));
  const whole = [Math.min(...all.map((line) => line.x[0])), Math.max(...all.map((line) => line.x.at(-1)))];
  if (whole[0] === whole[1]) whole[1] += 1;
  let seen = [...whole];
  let cursor = null; // on the x axis
  let begun = null; // where a drag began

  const tools = append(root, "div", { className: "tools" });
  const reset = append(tools, "button", { type: "button", textContent: "whole range", disabled: true });
  append(tools, "span", { className: "hint", textContent: "Drag over a part to zoom in; after a click the wheel zooms too." });
  const titles = panels.map((panel) => panel.title).join(", ");
  const label = `curves of ${titles}; the arrow keys go along them, plus and minus zoom, 0 shows the whole range`;
  const ground = stage(root, label, signal, () => bottom(panels.length - 1) + PANEL.gap, redraw);
  const legend = append(root, "ul", { className: "legend" });
  const say = readout(root, "Point at the curves for their values.");

  const top = (number) => 8 + (number ? PANEL.first + PANEL.gap + (number - 1) * (PANEL.other + PANEL.gap) : 0);
  function bottom(number) {
    return top(number) + (number ? PANEL.other : PANEL.first);
  }
  const right = () => ground.width - PANEL.right;
  const toPixel = (x) => PANEL.left + ((x - seen[0]) / (seen[1] - seen[0])) * (right() - PANEL.left);
  const toValue = (pixel) => seen[0] + ((pixel - PANEL.left) / (right() - PANEL.left)) * (seen[1] - seen[0]);

  function redraw() {
    ground.lower.clearRect(0, 0, ground.width, ground.height);
    panels.forEach((panel, number) => drawPanel(ground, panel, { top: top(number), bottom: bottom(number) }));
    mark();
  }

  function drawPanel(ground, panel, { top, bottom }) {
    const context = ground.lower;
    const [low, high] = reach(panel, seen);
    const form = panel.log ? Math.log10 : (value) => value;
    const y = (value) => bottom - ((form(value) - form(low)) / (form(high) - form(low))) * (bottom - top);
    axes(ground, panel, { top, bottom, low, high, y });
    context.save();
    context.beginPath();
    context.rect(PANEL.left, top - 2, right() - PANEL.left, bottom - top + 4);
    context.clip();
    for (const line of panel.lines) {
      context.strokeStyle = line.colour ?? ground.colour("faint");
      context.lineWidth = line.faint ? 1 : 1.6;
      context.beginPath();
      let drawing = false;
      for (let index = 0; index < line.x.length; index++) {
        const there = Number.isFinite(line.y[index]) && !(panel.log && line.y[index] <= 0);
        if (there) context[drawing ? "lineTo" : "moveTo"](toPixel(line.x[index]), y(line.y[index]));
        drawing = there;
      }
      context.stroke();
      if (line.x.length <= 40 && !line.faint) dots(context, line, y);
    }
    context.restore();
  }

  function dots(context, line, y) {
    context.fillStyle = line.colour;
    line.x.forEach((x, index) => {
      context.beginPath();
      context.arc(toPixel(x), y(line.y[index]), 2.6, 0, 2 * Math.PI);
      context.fill();
    });
  }

  function axes(ground, panel, { top, bottom, low, high, y }) {
    const context = ground.lower;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (const value of panel.log ? decades(low, high) : ticks(low, high, 5)) {
      context.strokeStyle = ground.colour("line");
      stroke(context, PANEL.left, y(value), right(), y(value));
      context.fillStyle = ground.colour("ink");
      context.textAlign = "right";
      context.fillText(shortly(value), PANEL.left - 6, y(value));
    }
    context.textAlign = "center";
    for (const value of ticks(...seen, Math.max(2, ground.width / 90)))
      context.fillText(shortly(value, 6), toPixel(value), bottom + 11);
    context.fillStyle = context.strokeStyle = ground.colour("soft");
    stroke(context, PANEL.left, bottom, right(), bottom);
    if (panel === panels.at(-1)) context.fillText(values.x_title, (PANEL.left + right()) / 2, bottom + 25);
    context.save();
    context.translate(9, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(panel.title, 0, 0);
    context.restore();
    // A mark goes through all panels that have it; the first says what it is.
    for (const [place, word] of panel.marks) {
      if (place < seen[0] || place > seen[1]) continue;
      context.setLineDash([2, 3]);
      stroke(context, toPixel(place), top, toPixel(place), bottom);
      context.setLineDash([]);
      if (panels.find(({ marks }) => marks.some((mark) => mark[0] === place && mark[1] === word)) !== panel) continue;
      const over = toPixel(place) + context.measureText(word).width + 6 > right();
      context.textAlign = over ? "right" : "left";
      context.fillText(word, toPixel(place) + (over ? -4 : 4), top + 6);
    }
  }

  // What follows the pointer: the place on all panels, or the part that is being dragged over.
  function mark() {
    ground.clear();
    if (cursor === null) return say("");
    const context = ground.upper;
    const [from, to] = [top(0), bottom(panels.length - 1)];
    if (begun !== null) {
      context.fillStyle = ground.colour("shade");
      context.fillRect(toPixel(begun), from, toPixel(cursor) - toPixel(begun), to - from);
    }
    const place = fullest.x[nearest(fullest.x, cursor)];
    context.strokeStyle = ground.colour("mark");
    stroke(context, toPixel(place), from, toPixel(place), to);
    const near = all.map((line, index) => [spoken[index], line.x, line.y, nearest(line.x, place)]);
    const said = near
      .filter(([, x, , index]) => Math.abs(toPixel(x[index]) - toPixel(place)) < NEAR)
      .map(([name, , y, index]) => `${name}: ${shortly(y[index], 4)}`);
    say(`${values.x_title} ${shortly(place, 6)} · ${said.join(" · ")}`);
  }

  function zoom(from, to) {
    const smallest = (whole[1] - whole[0]) / 1e4;
    const [low, high] = [Math.max(whole[0], Math.min(from, to)), Math.min(whole[1], Math.max(from, to))];
    if (high - low < smallest) return;
    seen = [low, high];
    reset.disabled = low === whole[0] && high === whole[1];
    redraw();
  }

  const scaled = (by, around) => zoom(around - (around - seen[0]) * by, around + (seen[1] - around) * by);
  const middle = () => cursor ?? (seen[0] + seen[1]) / 2;

  function point(event) {
    const pixel = Math.max(PANEL.left, Math.min(right(), event.offsetX));
    cursor = toValue(pixel);
    mark();
  }

  function release(event) {
    if (begun === null) return;
    const [from, to] = [begun, toValue(Math.max(PANEL.left, Math.min(right(), event.offsetX)))];
    begun = null;
    if (Math.abs(toPixel(from) - toPixel(to)) > 5) zoom(from, to);
    else mark();
  }

  function key(event) {
    const step = (seen[1] - seen[0]) / 100;
    const go = (x) => {
      cursor = Math.max(seen[0], Math.min(seen[1], x));
      mark();
    };
    const actions = {
      ArrowLeft: () => go(cursor === null ? seen[1] : cursor - step),
      ArrowRight: () => go(cursor === null ? seen[0] : cursor + step),
      Home: () => go(seen[0]),
      End: () => go(seen[1]),
      "+": () => scaled(0.5, middle()),
      "=": () => scaled(0.5, middle()),
      "-": () => scaled(2, middle()),
      0: () => zoom(...whole),
      Escape: () => ((cursor = null), mark()),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  function wheel(event) {
    if (document.activeElement !== ground.canvas) return; // the page scrolls
    event.preventDefault();
    scaled(event.deltaY > 0 ? 1.25 : 0.8, middle());
  }

  for (const line of all.filter((line, index) => all.findIndex((other) => other.name === line.name) === index)) {
    const item = append(legend, "li", { textContent: line.name, className: line.faint ? "faint" : "" });
    if (line.colour) item.style.setProperty("--glass-line-colour", line.colour);
  }
  const on = (name, does, options = {}) => ground.canvas.addEventListener(name, does, { signal, ...options });
  on("pointermove", point);
  on("pointerleave", () => begun === null && ((cursor = null), mark()));
  on("pointerdown", (event) => {
    ground.canvas.setPointerCapture(event.pointerId);
    point(event);
    begun = cursor;
  });
  on("pointerup", release);
  on("pointercancel", () => ((begun = null), mark()));
  on("keydown", key);
  on("wheel", wheel, { passive: false });
  reset.addEventListener("click", () => zoom(...whole), { signal });
  ground.fit();
}

function stroke(context, fromX, fromY, toX, toY) {
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}

// The index of the value nearest to x, of ascending values.
function nearest(values, x) {
  let [low, high] = [0, values.length - 1];
  while (high - low > 1) {
    const between = (low + high) >> 1;
    if (values[between] <= x) low = between;
    else high = between;
  }
  return Math.abs(values[low] - x) <= Math.abs(values[high] - x) ? low : high;
}

// The values from which to which a panel's axis goes for the part of the x axis that is seen.
function reach({ lines, log }, [from, to]) {
  let low = Infinity;
  let high = -Infinity;
  for (const { x, y } of lines)
    for (let index = 0; index < x.length; index++) {
      if (x[index] < from || x[index] > to || !Number.isFinite(y[index]) || (log && y[index] <= 0)) continue;
      low = Math.min(low, y[index]);
      high = Math.max(high, y[index]);
    }
  if (low > high) return log ? [1, 10] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
  const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return [low >= 0 && low < room * 4 ? 0 : low - room, high + room];
}

// About so many round numbers between two values.
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

// Powers of ten between two values; with twos and fives where there are few.
function decades(low, high) {
  const between = (factors) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      found.push(...factors.map((factor) => Number((factor * 10 ** power).toPrecision(3))));
    return found.filter((value) => value >= low && value <= high);
  };
  const tens = between([1]);
  const every = Math.ceil(tens.length / 6);
  if (tens.length >= 3) return tens.filter((_, index) => index % every === 0);
  const some = between([1, 2, 5]);
  return some.length >= 2 ? some : ticks(low, high, 3);
}
