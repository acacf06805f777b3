// The page: state, what is drawn, and what answers to mouse, finger, pen and keyboard.
"use strict";

const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];
const at = (id) => document.getElementById(id);
const state = { x: null, addend: 2, model: 0, sampled: false, frame: 0, walk: 0, strokes: false };
const models = [];
let judge = null;

// Seven bits a character; those that a page may not hold stand 128 higher.
function bytesOf(id) {
  const text = at(id).textContent, bytes = new Uint8Array(Math.floor((text.length * 7) / 8));
  let held = 0, bits = 0, to = 0;
  for (let i = 0; i < text.length; i++) {
    held = ((held << 7) | (text.charCodeAt(i) & 127)) & 0x7fff;
    bits += 7;
    if (bits >= 8) bytes[to++] = (held >> (bits -= 8)) & 255;
  }
  return bytes;
}

// The number that sixteen bits stand for: a sign, five of the exponent, ten of the fraction.
function half(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

// {name: Float32Array} of a block of weights; large ones have eight bits and a scale a row.
async function weightsOf(id, tensors) {
  const packed = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(packed).arrayBuffer(), weights = {};
  let from = 0;
  for (const [name, count, rows] of tensors) {
    const values = (weights[name] = new Float32Array(count));
    if (!rows) {
      new Uint16Array(buffer.slice(from, from + 2 * count)).forEach((bits, i) => (values[i] = half(bits)));
      from += 2 * count;
      continue;
    }
    const scales = new Float32Array(buffer.slice(from, from + 4 * rows)), wide = count / rows;
    const steps = new Int8Array(buffer, from + 4 * rows, count);
    for (let i = 0; i < count; i++) values[i] = steps[i] * scales[Math.floor(i / wide)];
    from += 4 * rows + count;
  }
  return weights;
}

async function modelAt(index) {
  const facts = PAGE.models[index];
  models[index] ??= new AdditionModel(facts, await weightsOf(`weights-${index}`, facts.tensors));
  return models[index];
}

// All that one sum needs, without a page; the tests call it too.
async function compute(index, x, addend, sampled = false) {
  const model = await modelAt(index), { z, maps } = model.encode(x);
  const { path, hidden } = model.add(z, addend, sampled), { image, maps: drawn } = model.decode(path[path.length - 1]);
  return { model, maps, path, hidden, image, drawn, reading: judge.read(image) };
}

function paint(canvas, image, side, ink) {
  const small = new OffscreenCanvas(side, side), pixels = new ImageData(side, side);
  for (let i = 0; i < image.length; i++) {
    const grey = Math.round(255 * (ink ? 1 - image[i] : image[i]));
    pixels.data.set([grey, grey, grey, 255], 4 * i);
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = Boolean(ink);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

const best = (reading) => reading.indexOf(Math.max(...reading));
const percent = (share) => `${Math.round(100 * share)} %`;
const written = (number) => String(Math.round(100 * number) / 100);

// Ask for an update; several in one frame are one.
function changed(sampled = false) {
  state.sampled = sampled;
  cancelAnimationFrame(state.frame);
  state.frame = requestAnimationFrame(update);
}

async function update() {
  const { x, addend, frame } = state, model = PAGE.models[state.model];
  at("number").textContent = written(addend);
  at("addend").setAttribute("aria-valuetext", written(addend));
  for (const button of at("numbers").children)
    button.setAttribute("aria-pressed", String(Number(button.textContent) === addend));
  at("about").textContent = model.about;
  at("another").hidden = !model.generative;
  if (!x || !judge) return empty();
  const found = await compute(state.model, x, addend, state.sampled), input = judge.read(x);
  if (frame !== state.frame) return; // meanwhile somebody went on
  const digit = best(input), sure = input[digit], sum = best(found.reading);
  paint(at("seen"), x, 28, false);
  paint(at("drawn"), found.image, 28, true);
  at("read").textContent = `Read as ${digit}, ${sure < 0.9 ? "only " : ""}${percent(sure)} sure.`;
  const beyond = digit + addend > 9 ? " No pair that it was trained on goes beyond 9." : "";
  at("status").textContent = `${digit} + ${written(addend)}: what is drawn is read as ${sum}, ${percent(found.reading[sum])} sure.${beyond}`;
  bars(found.reading);
  codes(found.path);
  walk(found);
  if (at("how").open) scheme(found);
}

function empty() {
  at("read").textContent = "Nothing yet.";
  at("status").textContent = judge ? "Draw a digit, or take one below." : "Loading the networks…";
  for (const id of ["seen", "drawn", "map"]) at(id).getContext("2d").clearRect(0, 0, at(id).width, at(id).height);
  at("bars").replaceChildren();
  at("code").replaceChildren();
  if (judge) cloud();
}

function bars(reading) {
  at("bars").setAttribute("aria-label", reading.map((share, digit) => `${digit}: ${percent(share)}`).join(", "));
  at("bars").replaceChildren(...reading.map((share, digit) => {
    const bar = document.createElement("div"), height = document.createElement("i");
    height.style.height = `${60 * share}px`;
    bar.append(height, String(digit));
    return bar;
  }));
}

function codes(path) {
  const z = path[0], sum = path[path.length - 1], most = Math.max(...z.map(Math.abs), ...sum.map(Math.abs), 1e-6);
  at("code").replaceChildren(...Array.from(z, (value, i) => {
    const row = document.createElement("div");
    for (const [kind, number] of [["was", value], ["is", sum[i]]]) {
      const bar = document.createElement("i"), wide = (48 * Math.abs(number)) / most;
      bar.className = kind;
      bar.style.width = `${wide}%`;
      bar.style.left = `${number < 0 ? 50 - wide : 50}%`;
      row.append(bar);
    }
    return row;
  }));
}

// A code's place on the map, in pixels of its canvas.
function place(model, z) {
  const { matrix, low, high } = model.map, { width, height } = at("map");
  const flat = matrix.map((row) => row.reduce((sum, weight, i) => sum + weight * z[i], 0));
  const [x, y] = flat.map((value, axis) => (value - low[axis]) / (high[axis] - low[axis]));
  return [12 + x * (width - 24), 12 + y * (height - 24)];
}

function cloud() {
  const model = PAGE.models[state.model], canvas = at("map"), context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  const places = Array.from({ length: 10 }, () => []);
  for (const [x, y, digit] of model.map.points) {
    const where = [12 + (x / 1000) * (canvas.width - 24), 12 + (y / 1000) * (canvas.height - 24)];
    places[digit].push(where);
    context.fillStyle = COLOURS[digit];
    context.globalAlpha = 0.45;
    context.fillRect(where[0] - 2, where[1] - 2, 4, 4);
  }
  context.globalAlpha = 1;
  context.font = "bold 17px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 4;
  context.strokeStyle = colour("--paper");
  context.fillStyle = colour("--ink");
  places.forEach((some, digit) => {
    const [x, y] = [0, 1].map((axis) => some.map((where) => where[axis]).sort((a, b) => a - b)[some.length >> 1]);
    context.strokeText(digit, x, y);
    context.fillText(digit, x, y);
  });
  return context;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Draw the way on the map, the point walking along it unless motion is unwelcome.
function walk({ model, path }) {
  const places = path.map((z) => place(model, z)), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const begun = performance.now(), lasts = still ? 0 : Math.min(900, 300 * (places.length - 1));
  cancelAnimationFrame(state.walk);
  const step = (now) => {
    const share = lasts ? Math.min(1, Math.max(0, now - begun) / lasts) : 1;
    const context = cloud(), gone = share * (places.length - 1), whole = Math.min(Math.floor(gone), places.length - 1);
    const [from, to] = [places[whole], places[Math.min(whole + 1, places.length - 1)]];
    const here = from.map((value, axis) => value + (gone - whole) * (to[axis] - value));
    const way = [...places.slice(0, whole + 1), here];
    for (const [wide, name] of [[6, "--paper"], [2.5, "--ink"]]) {
      context.lineWidth = wide;
      context.strokeStyle = colour(name);
      context.beginPath();
      way.forEach(([x, y]) => context.lineTo(x, y));
      context.stroke();
      context.beginPath();
      context.arc(...places[0], 8, 0, 2 * Math.PI);
      context.stroke();
    }
    context.fillStyle = colour("--ink");
    for (const [x, y] of way.slice(1)) {
      context.beginPath();
      context.arc(x, y, 5, 0, 2 * Math.PI);
      context.fill();
    }
    if (share < 1) state.walk = requestAnimationFrame(step);
  };
  step(begun);
}

// What each layer makes, as small grey images; the brightest of a layer is white.
function scheme({ model, maps, path, hidden, image, drawn }) {
  const z = path[0], sum = path[path.length - 1], code = (values) => ({ channels: values.length, side: 1, data: values });
  const layers = [
    ["your digit", { channels: 1, side: 28, data: state.x }],
    ...maps.map((map) => [`${map.channels} maps of ${map.side}×${map.side}`, map]),
    ["code", code(z)],
    ...(hidden ? [["adder", code(hidden)]] : path.slice(1, -1).map((step, i) => [`+ ${i + 1}`, code(step)])),
    ["code of the sum", code(sum)],
    ...drawn.map((map) => [`${map.channels} maps of ${map.side}×${map.side}`, map]),
    ["the sum", { channels: 1, side: 28, data: image }],
  ];
  at("scheme").replaceChildren(...layers.map(([name, map]) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Activations: ${name}`);
    tiles(canvas, map);
    figure.append(canvas, caption);
    return figure;
  }));
}

function tiles(canvas, { channels, side, data }) {
  const columns = side === 1 ? 1 : Math.ceil(Math.sqrt(channels)), rows = Math.ceil(channels / columns);
  const gap = side === 1 || channels === 1 ? 0 : 1, most = Math.max(1e-6, data.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
  canvas.width = columns * (side + gap);
  canvas.height = rows * (side + gap);
  const pixels = new ImageData(canvas.width, canvas.height);
  for (let c = 0, from = 0; c < channels; c++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const to = ((Math.floor(c / columns) * (side + gap) + y) * canvas.width + (c % columns) * (side + gap) + x) * 4;
        const grey = Math.round((255 * Math.abs(data[from++])) / most);
        pixels.data.set([grey, grey, grey, 255], to);
      }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const enlarged = side === 1 ? 14 : channels === 1 ? 4 : Math.max(1, Math.min(4, Math.floor(150 / canvas.width)));
  canvas.style.width = `${canvas.width * enlarged}px`;
}

// Drawing

function inkOfPaper() {
  const { width, height } = at("paper"), { data } = at("paper").getContext("2d").getImageData(0, 0, width, height);
  return { wide: width, high: height, data: Float32Array.from({ length: width * height }, (_, i) => data[4 * i + 3] / 255) };
}

function listenToPen() {
  const paper = at("paper"), context = paper.getContext("2d", { willReadFrequently: true });
  let last = null;
  const where = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
  };
  const stroke = (event) => {
    for (const moment of event.getCoalescedEvents?.().concat(event) ?? [event]) {
      const here = where(moment);
      context.lineWidth = 22;
      context.lineCap = context.lineJoin = "round";
      context.strokeStyle = "#000000";
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...here);
      context.stroke();
      last = here;
    }
    show(asMnist(inkOfPaper()));
  };
  paper.addEventListener("pointerdown", (event) => {
    if (!state.strokes) clear(); // what lies there is no drawing, but somebody's digit
    state.strokes = true;
    paper.setPointerCapture(event.pointerId);
    last = where(event);
    stroke(event);
  });
  paper.addEventListener("pointermove", (event) => last && stroke(event));
  for (const name of ["pointerup", "pointercancel"]) paper.addEventListener(name, () => (last = null));
}

function clear() {
  at("paper").getContext("2d").clearRect(0, 0, at("paper").width, at("paper").height);
  state.strokes = false;
  show(null);
}

function show(x) {
  state.x = x;
  changed();
}

// Lay a digit that was not drawn here on the paper.
function lay(x) {
  clear();
  paint(at("paper"), x, 28, true);
  show(x);
}

// The grey levels of a part of an image, its longer side at most 256.
function greyOf(bitmap, { left, top, wide, high }) {
  const scale = Math.min(1, 256 / Math.max(wide, high));
  const across = Math.max(8, Math.round(wide * scale)), down = Math.max(8, Math.round(high * scale));
  const context = new OffscreenCanvas(across, down).getContext("2d"), grey = new Float32Array(across * down);
  context.fillStyle = "#ffffff"; // behind what is transparent
  context.fillRect(0, 0, across, down);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, wide, high, 0, 0, across, down);
  const { data } = context.getImageData(0, 0, across, down);
  for (let i = 0; i < grey.length; i++)
    grey[i] = (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255;
  return { wide: across, high: down, data: grey };
}

async function readPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    at("status").textContent = `${file.name} is not an image that this browser can read: save it as PNG or JPEG.`;
    return;
  }
  const whole = { left: 0, top: 0, wide: bitmap.width, high: bitmap.height };
  const first = greyOf(bitmap, whole), upright = darkOnLight(first), turned = upright !== first;
  const ink = inkOfPhoto(upright), box = ink && boxOf(ink);
  let x = null;
  if (box) {
    // Once more, closer: a small digit keeps its resolution.
    const margin = 0.3 * Math.max(box.wide, box.high), scale = bitmap.width / first.wide;
    const left = Math.max(0, box.left - margin) * scale, top = Math.max(0, box.top - margin) * scale;
    const wide = Math.min(bitmap.width - left, (box.wide + 2 * margin) * scale);
    const high = Math.min(bitmap.height - top, (box.high + 2 * margin) * scale);
    const closer = greyOf(bitmap, { left, top, wide, high });
    if (turned) closer.data = closer.data.map((value) => 1 - value);
    x = asMnist(thick(inkOfPhoto(closer) ?? ink));
  }
  if (x) lay(x);
  else at("status").textContent = `No digit stands out in ${file.name}.`;
}

// Set-up

function makeNumbers() {
  for (let number = 0; number < 10; number++) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = number;
    button.addEventListener("click", () => setAddend(number));
    at("numbers").append(button);
  }
  at("addend").addEventListener("input", () => setAddend(Number(at("addend").value)));
}

function setAddend(number) {
  state.addend = number;
  at("addend").value = number;
  changed();
}

function makeDigits() {
  const pixels = bytesOf("digits-data"), count = PAGE.examples;
  const image = (digit, which) => Float32Array.from(pixels.subarray((digit * count + which) * 784, (digit * count + which + 1) * 784), (grey) => grey / 255);
  for (let digit = 0; digit < 10; digit++) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    let which = 0;
    button.type = "button";
    button.setAttribute("aria-label", `A test digit ${digit}; press again for the next`);
    canvas.width = canvas.height = 28;
    paint(canvas, image(digit, 0), 28, false);
    button.append(canvas);
    button.addEventListener("click", () => {
      lay(image(digit, which));
      which = (which + 1) % count;
      paint(canvas, image(digit, which), 28, false);
    });
    at("digits").append(button);
  }
  return image;
}

function makeModels() {
  PAGE.models.forEach((model, index) => {
    const label = document.createElement("label"), radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "model";
    radio.checked = index === 0;
    radio.addEventListener("change", () => {
      state.model = index;
      changed();
    });
    label.append(radio, ` ${model.title}`);
    at("models").append(label);
  });
  at("another").addEventListener("click", () => changed(true));
}

async function start() {
  makeNumbers();
  makeModels();
  const image = makeDigits();
  listenToPen();
  at("clear").addEventListener("click", clear);
  at("how").addEventListener("toggle", () => changed(state.sampled));
  at("file").addEventListener("change", () => {
    const [file] = at("file").files;
    at("file").value = ""; // the same one may be chosen again
    if (file) readPhoto(file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) readPhoto(event.dataTransfer.files[0]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => changed(state.sampled));
  judge = new Judge(await weightsOf("judge-data", PAGE.judge));
  await modelAt(0);
  if (!state.x) lay(image(7, 0));
}
