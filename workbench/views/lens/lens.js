// The lens: several renderings of one clip, frame by frame, in step. The adapters (gr.HTML, anywidget) hand in element,
// trigger(event, data), props and watch(name, callback); chart.js comes before this text in the same scope.
// props.value is what payload.py makes; props.goto is a frame (or [frame, count] to go to the same frame twice).

const root = element.querySelector('.lens');
const parts = Object.fromEntries([...root.querySelectorAll('[data-part]')].map(found => [found.dataset.part, found]));
const part = name => parts[name];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const LAYOUTS = ['wipe', 'grid', 'flicker', 'difference'];
const PATCH = 32;                                   // side of what the loupe magnifies, in pixels of the picture
const AHEAD = 6;                                    // frames fetched before they are asked for

let scene = null;
let turn = 0;                                       // counts wishes for a frame; only the newest may draw
let frame = 0;                                      // what is on show
let wanted = 0;                                     // what was asked for last
const view = {
  layout: 'wipe', left: '', right: '', absent: new Set(['low']), wipe: 0.5, gain: 4, flipped: false, zoom: 'fit', overlay: '',
  opacity: 0.65, channel: 0, loupe: true, point: [0, 0], pinned: false, speed: 1, playing: false, score: '', muted: new Set(),
};

const method = key => scene.methods.find(m => m.key === key);
const overlay = () => scene.overlays.find(o => o.kind === view.overlay) || null;
const say = text => { if (part('status').textContent !== text) part('status').textContent = text; };

// ---------------------------------------------------------------- pictures: fetched once, kept up to a number of bytes

const cache = new Map();                            // address -> { bitmap } or { grey, width, height }; oldest first
const pending = new Map();                          // address -> { promise, control }
const failed = new Map();                           // address -> why; asked for again only when the value changes
let bytes = 0, budget = (props.budget_mib || 512) * 2 ** 20;

// A list of addresses as it is; the address of a folder, as seen from where the app lives (behind a proxy: not the top).
function settled(frames) {
  if (Array.isArray(frames)) return frames;
  const home = globalThis.gradio_config?.root || document.baseURI;
  return new URL(frames, home.replace(/\/*$/, '/')).href;
}

function addressOf(frames, index) {
  return Array.isArray(frames) ? frames[index] : `${frames}/${String(index).padStart(5, '0')}.webp`;
}

// Every picture that a frame needs, in the present layout.
function needed(index) {
  const shown = onShow(), keys = view.loupe ? scene.methods.map(m => m.key) : shown, map = overlay();
  const jobs = keys.map(key => ({ key, address: addressOf(method(key).frames, index), grey: false }));
  if (map && view.layout !== 'difference') {
    for (const key of shown) if (map.maps[key]) jobs.push({ key, address: addressOf(map.maps[key].frames, index), grey: true });
  }
  return jobs;
}

function onShow() {
  if (view.layout !== 'grid') return view.left === view.right ? [view.left] : [view.left, view.right];
  return scene.methods.map(m => m.key).filter(key => !view.absent.has(key));
}

// The entry if it is there, else a promise that ends with the entry or, where there is no picture, with null.
function load({ address, grey }) {
  const known = cache.get(address);
  if (known) {
    cache.delete(address);
    cache.set(address, known);
    return known;
  }
  if (failed.has(address)) return null;
  if (pending.has(address)) return pending.get(address).promise;
  const control = new AbortController(), job = { control };
  job.promise = fetch(address, { signal: control.signal })
    .then(answer => {
      if (answer.status === 410) throw new Error('rewritten meanwhile; choose it again');
      if (!answer.ok) throw new Error(answer.status === 404 ? 'not there (404)' : `the server answers ${answer.status}`);
      return answer.blob();
    })
    // No colour management, no premultiplication: the pixels that were scored, and no others.
    .then(blob => createImageBitmap(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' }))
    .then(bitmap => keep(address, grey ? greyOf(bitmap) : { bitmap, bytes: bitmap.width * bitmap.height * 4 }))
    .catch(error => {
      if (error.name === 'AbortError') return null;
      failed.set(address, error.name === 'InvalidStateError' ? 'not a readable picture' : error.message);
      return null;
    })
    .finally(() => { if (pending.get(address) === job) pending.delete(address); });
  pending.set(address, job);
  return job.promise;
}

function keep(address, entry) {
  cache.set(address, entry);
  bytes += entry.bytes;
  const held = new Set([...needed(frame), ...needed(wanted)].map(job => job.address));
  for (const [old, dropped] of cache) {             // the longest unused go first, never what is on show
    if (bytes <= budget) break;
    if (held.has(old) || old === address) continue;
    cache.delete(old);
    bytes -= dropped.bytes;
    dropped.bitmap?.close();
  }
  return entry;
}

// While somebody scrubs, what is no longer wanted must not stand in the queue before what is.
function abortAllBut(addresses) {
  for (const [address, job] of pending) {
    if (addresses.has(address)) continue;
    pending.delete(address);
    job.control.abort();
  }
}

const scratch = document.createElement('canvas');
const scratchContext = scratch.getContext('2d', { willReadFrequently: true });

function greyOf(bitmap) {
  scratch.width = bitmap.width;
  scratch.height = bitmap.height;
  scratchContext.drawImage(bitmap, 0, 0);
  const { data, width, height } = scratchContext.getImageData(0, 0, bitmap.width, bitmap.height);
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
  bitmap.close();
  return { grey, width, height, bytes: grey.length };
}

const pictureOf = (key, index = frame) => cache.get(addressOf(method(key).frames, index))?.bitmap || null;
const mapOf = (map, key, index = frame) => map.maps[key] ? cache.get(addressOf(map.maps[key].frames, index)) || null : null;

// ------------------------------------------------------------------------------------- going to a frame, all in step

// Draws frame `index` when every picture of it is there (or known to be missing), unless a newer wish has come meanwhile.
function show(index) {
  if (!scene) return Promise.resolve(false);
  const mine = ++turn;
  wanted = clamp(Math.round(index), 0, scene.frames - 1);
  const jobs = needed(wanted), entries = jobs.map(load);
  if (!entries.some(entry => entry instanceof Promise)) {   // all at hand: draw now, not a tick later
    arrive();
    return Promise.resolve(true);
  }
  const soon = new Set(jobs.map(job => job.address));
  for (let d = 1; d <= AHEAD; d++) if (wanted + d < scene.frames) needed(wanted + d).forEach(job => soon.add(job.address));
  abortAllBut(soon);
  return Promise.all(entries).then(() => {
    if (mine !== turn) return false;
    arrive();
    return true;
  });
}

function arrive() {
  frame = wanted;
  draw();
  const missing = needed(frame).filter(job => failed.has(job.address));
  say(missing.map(job => `${method(job.key).label}, frame ${frame + 1}${job.grey ? ', map' : ''}: ${failed.get(job.address)}`).join('; '));
  for (let d = 1; d <= AHEAD; d++) needed((frame + d) % scene.frames).forEach(load);
  tell();
}

let telling = 0;
function tell() {                                   // Python hears where somebody stays, not every frame on the way
  clearTimeout(telling);
  telling = setTimeout(() => { if (scene && !view.playing) trigger('select', { frame }); }, 150);
}

function play() {
  if (!scene) return;
  if (view.playing) return stop();
  view.playing = true;
  marks();
  let since = performance.now(), from = frame >= scene.frames - 1 ? 0 : frame, speed = view.speed, busy = false;
  const tick = now => {
    if (!view.playing || !scene) return;
    if (speed !== view.speed) [since, from, speed] = [now, frame, view.speed];
    const due = from + Math.floor((now - since) / 1000 * scene.fps * speed);
    if (due >= scene.frames) [since, from] = [now, 0];
    if (!busy && due !== frame) {
      const came = show(due >= scene.frames ? 0 : due);
      busy = true;
      came.finally(() => { busy = false; });
    }
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function stop() {
  view.playing = false;
  [turn, wanted] = [turn + 1, frame];               // a picture still on its way must not move the clip once it has stopped
  marks();
  tell();
}

function seek(index) {
  if (view.playing) stop();
  return show(index);
}

// ------------------------------------------------------------------------- drawing: canvases at the size of the pictures

let cells = [];                                     // [{ keys, box, canvas, context, labels, divider, spot }]

function makeCells() {
  const groups = view.layout === 'grid' ? onShow().map(key => [key]) : [[view.left, view.right]];
  cells = groups.map(keys => {
    const canvas = node('canvas', { width: scene.width, height: scene.height });
    const context = canvas.getContext('2d', { willReadFrequently: view.layout === 'difference' });
    context.imageSmoothingEnabled = false;          // `low` is enlarged pixel by pixel
    const labels = keys.map((key, side) => node('span', { className: `lens-label ${side ? 'right' : 'left'}` }));
    const spot = node('i', { className: 'lens-spot' });
    const box = node('div', { className: 'lens-cell' }, canvas, spot, ...labels);
    const cell = { keys, box, canvas, context, labels, spot, divider: null };
    if (view.layout === 'wipe') {
      cell.divider = node('i', { className: 'lens-divider', tabIndex: 0 });
      cell.divider.setAttribute('role', 'slider');
      cell.divider.setAttribute('aria-label', 'Where left ends and right begins, in percent');
      cell.divider.addEventListener('keydown', event => {
        const by = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
        if (by) { wipeTo(view.wipe + by); event.preventDefault(); event.stopPropagation(); }
      });
      box.append(cell.divider);
    }
    listen(cell);
    return cell;
  });
  part('stage').replaceChildren(...cells.map(cell => cell.box));
  if (!cells.length) part('stage').append(node('p', { className: 'lens-empty', textContent: 'Choose a method to show.' }));
  fit();
}

// The number of columns that shows the pictures largest, and their size on the page.
function fit() {
  if (!scene || !cells.length) return;
  const stage = part('stage'), gap = 6, room = stage.parentElement.clientWidth, tall = clamp(innerHeight * 0.64, 220, 760);
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= cells.length; columns++) {
    const rows = Math.ceil(cells.length / columns);
    const scale = Math.min((room - gap * (columns - 1)) / columns / scene.width, (tall - gap * (rows - 1)) / rows / scene.height);
    if (scale > best.scale) best = { scale, columns };
  }
  const scale = view.zoom === 'fit' ? best.scale : Number(view.zoom);
  stage.style.gridTemplateColumns = `repeat(${best.columns}, ${Math.max(1, Math.floor(scene.width * scale))}px)`;
  for (const { canvas } of cells) canvas.style.imageRendering = scale >= 1 ? 'pixelated' : 'auto';
  root.style.setProperty('--label-room', scene.width * scale < 200 ? '10px' : '12px');
  fitLoupe();
}

function draw() {
  for (const cell of cells) {
    if (view.layout === 'difference') drawDifference(cell);
    else if (view.layout === 'flicker') drawPart(cell, cell.keys[view.flipped ? 1 : 0], 0, scene.width);
    else if (view.layout === 'wipe') {
      const edge = Math.round(view.wipe * scene.width);
      drawPart(cell, cell.keys[0], 0, edge);
      drawPart(cell, cell.keys[1], edge, scene.width);
    } else drawPart(cell, cell.keys[0], 0, scene.width);
  }
  marks();
  drawLoupe();
  charts.forEach(chart => chart.cursor(frame));
}

// Columns `from` to `to` of one method's picture, and its own map over it.
function drawPart({ context }, key, from, to) {
  if (to <= from) return;
  const { width, height } = scene, bitmap = pictureOf(key), map = overlay(), entry = map && mapOf(map, key);
  context.save();
  context.beginPath();
  context.rect(from, 0, to - from, height);
  context.clip();
  context.clearRect(from, 0, to - from, height);
  if (bitmap) context.drawImage(bitmap, 0, 0, width, height); else drawMissing(context);
  if (entry) {
    context.globalAlpha = view.opacity;
    context.drawImage(coloured(map, key, entry), 0, 0, width, height);
  }
  context.restore();
}

function drawMissing(context) {
  context.fillStyle = '#77777733';
  context.fillRect(0, 0, scene.width, scene.height);
  context.strokeStyle = '#777777';
  context.beginPath();
  for (let x = -scene.height; x < scene.width; x += 16) { context.moveTo(x, scene.height); context.lineTo(x + scene.height, 0); }
  context.stroke();
}

function pixelsOf(key) {
  const bitmap = pictureOf(key);
  if (!bitmap) return null;
  scratch.width = scene.width;
  scratch.height = scene.height;
  scratchContext.imageSmoothingEnabled = false;
  scratchContext.drawImage(bitmap, 0, 0, scene.width, scene.height);
  return scratchContext.getImageData(0, 0, scene.width, scene.height);
}

// |left - right| * gain, computed from the numbers, so that black means equal and a count of levels can be trusted.
function drawDifference(cell) {
  const { context, keys } = cell, a = pixelsOf(keys[0]), b = pixelsOf(keys[1]);
  cell.mean = null;
  if (!a || !b) { context.clearRect(0, 0, scene.width, scene.height); drawMissing(context); return; }
  let sum = 0;
  for (let i = 0; i < a.data.length; i += 4) {
    for (let c = i; c < i + 3; c++) {
      const gap = Math.abs(a.data[c] - b.data[c]);
      sum += gap;
      a.data[c] = gap * view.gain;                  // Uint8ClampedArray: stays at 255
    }
  }
  cell.mean = sum / (a.data.length / 4 * 3);
  context.putImageData(a, 0, 0);
}

// ------------------------------------------------------------------------- maps: grey levels -> values -> colours

function ramp(stops) {                              // 256 colours between the stops
  const rgb = stops.map(stop => [1, 3, 5].map(i => parseInt(stop.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = i / 255 * (rgb.length - 1), k = Math.min(rgb.length - 2, Math.floor(at));
    return rgb[k].map((value, c) => Math.round(value + (rgb[k + 1][c] - value) * (at - k)));
  });
}

const channelOf = (map, key) => Math.min(view.channel, map.maps[key].channels - 1);

function coloured(map, key, entry) {
  const { low, high, channels } = map.maps[key], channel = channelOf(map, key);
  if (entry.canvas && entry.channel === channel) return entry.canvas;
  const { width } = entry, height = Math.floor(entry.height / channels), canvas = node('canvas', { width, height });
  const picture = new ImageData(width, height), colours = ramp(map.stops), span = map.high - map.low || 1;
  for (let i = 0; i < width * height; i++) {        // own scale -> the scale that all maps of the kind share
    const value = low + entry.grey[channel * width * height + i] / 255 * (high - low);
    const colour = colours[clamp(Math.round((value - map.low) / span * 255), 0, 255)];
    picture.data.set([...colour, 255], 4 * i);
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
  Object.assign(entry, { canvas, channel });
  return canvas;
}

function valueAt(map, key, [x, y]) {
  const entry = mapOf(map, key);
  if (!entry) return null;
  const { low, high, channels } = map.maps[key], height = Math.floor(entry.height / channels);
  const column = clamp(Math.floor(x / scene.width * entry.width), 0, entry.width - 1);
  const row = clamp(Math.floor(y / scene.height * height), 0, height - 1);
  return low + entry.grey[(channelOf(map, key) * height + row) * entry.width + column] / 255 * (high - low);
}

function makeLegend() {
  const map = overlay(), legend = part('legend');
  legend.hidden = !map || view.layout === 'difference';
  if (!map) return;
  const bar = node('i', { className: 'lens-ramp' });
  bar.style.background = `linear-gradient(to right, ${map.stops.join(', ')})`;
  const numbers = [map.low, (map.low + map.high) / 2, map.high].map(value => node('span', { textContent: short(value) }));
  legend.replaceChildren(
    node('b', { textContent: map.label }),
    node('span', { className: 'lens-scale' }, bar, node('span', { className: 'lens-numbers' }, ...numbers)),
    node('span', { className: 'lens-values' }), node('span', { className: 'lens-explain', textContent: map.explain }));
  readValues();
}

function readValues() {
  const map = overlay(), place = part('legend').querySelector('.lens-values');
  if (!map || !place) return;
  place.replaceChildren(...onShow().map(key => {
    const value = valueAt(map, key, view.point);
    return node('span', {}, dot(key), `${method(key).label} ${map.maps[key] ? short(value) : 'no map'}`);
  }));
}

// ---------------------------------------------------------------------- words and marks around the pictures (DOM)

function dot(key) {
  const mark = node('i', { className: 'dot' });
  mark.style.background = method(key).colour;
  return mark;
}

function scoreOf(key) {
  const curve = scene.curves.find(c => c.key === view.score), value = curve?.series[key]?.[frame];
  return exists(value) ? `${short(value)} ${curve.unit}`.trim() : '';
}

function label(element_, key, text = '') {
  const map = overlay(), none = map && view.layout !== 'difference' && !map.maps[key];
  element_.replaceChildren(dot(key), node('b', { textContent: method(key).label }), ` ${text || scoreOf(key)}`);
  if (none) element_.append(node('em', { textContent: ' no map' }));
  element_.title = method(key).note;
}

function marks() {
  root.classList.toggle('playing', view.playing);
  part('play').setAttribute('aria-label', view.playing ? 'Pause' : 'Play');
  if (!scene) return;
  root.dataset.frame = frame;
  part('scrub').value = frame;
  part('scrub').setAttribute('aria-valuetext', `frame ${frame + 1} of ${scene.frames}`);
  part('count').textContent = `frame ${frame + 1} / ${scene.frames} · ${(frame / scene.fps).toFixed(2)} s`;
  for (const cell of cells) {
    const [first, second] = cell.labels;
    if (view.layout === 'difference') {
      const [a, b] = cell.keys.map(key => method(key).label);
      first.replaceChildren(node('b', { textContent: `|${a} − ${b}| × ${view.gain}` }), exists(cell.mean) ? ` mean ${short(cell.mean)} of 255 levels` : ' no picture');
      second.hidden = true;
    } else if (view.layout === 'flicker') {
      label(first, cell.keys[view.flipped ? 1 : 0]);
      second.hidden = true;
    } else cell.keys.forEach((key, side) => label(cell.labels[side], key));
    if (cell.divider) {
      cell.divider.style.left = `${view.wipe * 100}%`;
      cell.divider.setAttribute('aria-valuenow', Math.round(view.wipe * 100));
    }
    const [left, top] = patchOrigin(), { style } = cell.spot;
    cell.spot.hidden = !view.loupe;
    cell.spot.classList.toggle('pinned', view.pinned);
    style.left = `${left / scene.width * 100}%`;
    style.top = `${top / scene.height * 100}%`;
    style.width = `${Math.min(PATCH, scene.width) / scene.width * 100}%`;
    style.height = `${Math.min(PATCH, scene.height) / scene.height * 100}%`;
  }
  readValues();
}

function controls() {                               // what the chosen layout has no use for is not there
  for (const button of part('layouts').children) button.setAttribute('aria-checked', button.dataset.layout === view.layout);
  part('pair').hidden = view.layout === 'grid';
  part('chips').hidden = view.layout !== 'grid';
  part('flicker').hidden = view.layout !== 'flicker';
  part('gains').hidden = view.layout !== 'difference';
  part('overlays').hidden = !scene.overlays.length || view.layout === 'difference';
  part('fading').hidden = !view.overlay;
  part('side').hidden = !view.loupe;
  root.classList.toggle('alone', !view.loupe);
  part('left').value = view.left;
  part('right').value = view.right;
  part('overlay').value = view.overlay;
  part('opacity').value = view.opacity;
  part('zoom').value = view.zoom;
  part('gain').value = view.gain;
  part('loupe').checked = view.loupe;
  for (const chip of part('chips').children) chip.setAttribute('aria-pressed', !view.absent.has(chip.dataset.key));
  const channels = overlay()?.channels || 1;
  part('channels').hidden = channels < 2;
  view.channel = clamp(view.channel, 0, channels - 1);
  part('channel').replaceChildren(...Array.from({ length: channels }, (_, i) => node('option', { value: i, textContent: i })));
  part('channel').value = view.channel;
}

function rearrange() {                              // after a change of layout, methods or map
  if (!scene) return;
  if (view.layout !== 'flicker') { part('blink').checked = false; view.flipped = false; }
  controls();
  makeCells();
  makeLegend();
  marks();                                          // names at once, pictures when they are there
  show(wanted);
}

// --------------------------------------------------------------------------- loupe: one patch of every method, enlarged

let patches = [];

function makeLoupe() {
  patches = scene.methods.map(({ key }) => {
    const canvas = node('canvas', { width: Math.min(PATCH, scene.width), height: Math.min(PATCH, scene.height) });
    const text = node('span', { className: 'lens-colour' }), pixel = node('i', { className: 'lens-pixel' });
    const head = node('span', { className: 'lens-name' }, dot(key), method(key).label);
    const box = node('div', { className: 'lens-patch' }, head, node('span', { className: 'lens-view' }, canvas, pixel), text);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    return { key, box, canvas, context, text, pixel };
  });
  part('patches').replaceChildren(...patches.map(patch => patch.box));
}

function fitLoupe() {                               // a whole number of screen pixels for each pixel of the picture
  const room = part('patches').clientWidth, gap = 8;
  if (!room || !patches.length) return;
  const columns = Math.min(patches.length, room > 700 ? patches.length : room < 420 ? 2 : 3);
  const zoom = clamp(Math.floor((room - gap * (columns - 1)) / columns / PATCH), 2, 6);
  part('patches').style.gridTemplateColumns = `repeat(${columns}, ${PATCH * zoom}px)`;
  for (const { canvas } of patches) {
    canvas.style.width = `${canvas.width * zoom}px`;
    canvas.style.height = `${canvas.height * zoom}px`;
  }
  part('where').dataset.zoom = zoom;
  drawLoupe();
}

const patchOrigin = () => [scene.width, scene.height].map((size, i) => clamp(view.point[i] - PATCH / 2, 0, Math.max(0, size - PATCH)));

function drawLoupe() {
  if (!scene || !view.loupe) return;
  const [left, top] = patchOrigin(), [x, y] = view.point;
  for (const { key, canvas, context, text, pixel } of patches) {
    const bitmap = pictureOf(key);
    context.clearRect(0, 0, canvas.width, canvas.height);
    text.textContent = bitmap ? '' : 'no picture';
    if (!bitmap) continue;
    context.drawImage(bitmap, -left, -top, scene.width, scene.height);
    text.textContent = [...context.getImageData(x - left, y - top, 1, 1).data.slice(0, 3)].join(' ');
    pixel.style.left = `${(x - left) / canvas.width * 100}%`;
    pixel.style.top = `${(y - top) / canvas.height * 100}%`;
    pixel.style.width = `${100 / canvas.width}%`;
    pixel.style.height = `${100 / canvas.height}%`;
  }
  part('where').textContent = `× ${part('where').dataset.zoom || ''} at column ${x}, row ${y}; ${view.pinned ? 'pinned, click to let go' : 'click a picture to pin'}`;
}

function pointAt(x, y) {
  view.point = [clamp(Math.floor(x), 0, scene.width - 1), clamp(Math.floor(y), 0, scene.height - 1)];
  marks();
  drawLoupe();
}

function wipeTo(share) {
  view.wipe = clamp(share, 0, 1);
  draw();
}

// A drag moves the wipe, a click pins the loupe; both work with a mouse, a pen and a finger.
function listen(cell) {
  let start = null;
  const place = event => {
    const box = cell.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * scene.width, (event.clientY - box.top) / box.height * scene.height];
  };
  cell.box.addEventListener('pointerdown', event => {
    if (event.button) return;
    start = { x: event.clientX, y: event.clientY, moved: false };
    cell.box.setPointerCapture(event.pointerId);
  });
  cell.box.addEventListener('pointermove', event => {
    if (start && !start.moved) start.moved = Math.hypot(event.clientX - start.x, event.clientY - start.y) > 3;
    if (start?.moved && view.layout === 'wipe') wipeTo(place(event)[0] / scene.width);
    else if (!view.pinned) pointAt(...place(event));
  });
  cell.box.addEventListener('pointerup', event => {
    if (start && !start.moved) { view.pinned = !view.pinned || event.pointerType === 'touch'; pointAt(...place(event)); }
    start = null;
  });
  cell.box.addEventListener('pointercancel', () => { start = null; });
}

// --------------------------------------------------------------------------------------------------- curves and legend

let charts = [];

function makeCurves() {
  const seen = new Set(), dashes = {};
  for (const m of scene.methods) {                  // two methods of one colour are told apart by dashes
    dashes[m.key] = seen.has(m.colour) ? '5 3' : '';
    seen.add(m.colour);
  }
  const counted = scene.methods.filter(m => scene.curves.some(c => c.series[m.key]?.some(exists)));
  part('key').replaceChildren(...counted.map(m => {
    const button = node('button', { type: 'button', title: m.note }, dot(m.key), m.label);
    button.setAttribute('aria-pressed', !view.muted.has(m.key));
    button.onclick = () => {
      if (!view.muted.delete(m.key)) view.muted.add(m.key);
      makeCurves();
    };
    return button;
  }));
  part('curves').replaceChildren();
  charts = scene.curves.map(curve => {
    const chart = lineChart(part('curves'));
    chart.figure.classList.toggle('scored', curve.key === view.score);
    chart.figure.dataset.key = curve.key;
    chart.set({
      title: curve.label, note: [curve.unit, `${curve.better} is better`].filter(Boolean).join(' · '),
      xs: Array.from({ length: scene.frames }, (_, i) => i), xName: 'frame', xText: x => String(x + 1), height: 118,
      series: counted.filter(m => !view.muted.has(m.key) && curve.series[m.key]?.some(exists)).map(m => (
        { key: m.key, label: m.label, colour: m.colour, dash: dashes[m.key], values: curve.series[m.key] })),
      onPick: seek,
      onTitle: () => { view.score = curve.key; charts.forEach(c => c.figure.classList.toggle('scored', c.figure.dataset.key === curve.key)); marks(); },
    });
    chart.cursor(frame);
    return chart;
  });
}

// ------------------------------------------------------------------------------------------------------ a new value

function choose(preferred, present, fallback) {
  return preferred.find(key => present.includes(key)) || fallback;
}

function setValue(given) {
  const value = given && JSON.parse(JSON.stringify(given));   // out of the reactive wrapping: plain and fast to read
  const kept = scene && value?.frames && ['width', 'height', 'frames'].every(name => scene[name] === value[name]);
  turn++;
  abortAllBut(new Set());
  failed.clear();
  part('body').hidden = !value?.frames;
  part('empty').hidden = !!value?.frames;
  part('empty').textContent = value?.message || 'Nothing to show yet.';
  if (!value?.frames) {
    scene = null;
    stop();
    return;
  }
  scene = value;
  for (const m of scene.methods) m.frames = settled(m.frames);
  for (const o of scene.overlays) for (const map of Object.values(o.maps)) map.frames = settled(map.frames);
  const keys = scene.methods.map(m => m.key);
  if (!keys.includes(view.left)) view.left = choose(['plain', 'bicubic'], keys, keys[0]);
  if (!keys.includes(view.right)) view.right = choose(['distilled', 'student', 'teacher'], keys, keys[keys.length - 1]);
  if (!overlay()) view.overlay = '';
  if (!scene.curves.some(c => c.key === view.score)) view.score = scene.curves[0]?.key || '';
  if (!kept) {
    if (view.playing) stop();
    wanted = frame = 0;
    view.pinned = false;
    view.point = [scene.width >> 1, scene.height >> 1];
  }
  wanted = Math.min(wanted, scene.frames - 1);
  for (const side of ['left', 'right']) part(side).replaceChildren(...scene.methods.map(m => node('option', { value: m.key, textContent: m.label })));
  part('overlay').replaceChildren(node('option', { value: '', textContent: 'none' }), ...scene.overlays.map(o => node('option', { value: o.kind, textContent: o.label })));
  part('chips').replaceChildren(...scene.methods.map(m => {
    const chip = node('button', { type: 'button', title: m.note }, dot(m.key), m.label);
    chip.dataset.key = m.key;
    chip.onclick = () => toggle(m.key);
    return chip;
  }));
  part('scrub').max = scene.frames - 1;
  makeLoupe();
  makeCurves();
  rearrange();
}

// --------------------------------------------------------------------------------------------- buttons and keys

function toggle(key) {
  if (!view.absent.delete(key)) view.absent.add(key);
  rearrange();
}

function layout(name) { view.layout = name; rearrange(); }
function flip() { view.flipped = !view.flipped; draw(); }
function loupe(on) { view.loupe = on; controls(); fit(); show(wanted); }
function pick(name, key) { view[name] = key; rearrange(); }
function nextOverlay() {
  const kinds = ['', ...scene.overlays.map(o => o.kind)];
  pick('overlay', kinds[(kinds.indexOf(view.overlay) + 1) % kinds.length]);
}

part('play').onclick = play;
part('back').onclick = () => seek(wanted - 1);
part('next').onclick = () => seek(wanted + 1);
part('scrub').oninput = event => seek(Number(event.target.value));
part('speed').onchange = event => { view.speed = Number(event.target.value); };
for (const button of part('layouts').children) button.onclick = () => layout(button.dataset.layout);
part('left').onchange = event => pick('left', event.target.value);
part('right').onchange = event => pick('right', event.target.value);
part('swap').onclick = () => { [view.left, view.right] = [view.right, view.left]; rearrange(); };
part('flip').onclick = flip;
part('gain').onchange = event => { view.gain = Number(event.target.value); draw(); };
part('zoom').onchange = event => { view.zoom = event.target.value; fit(); };
part('loupe').onchange = event => loupe(event.target.checked);
part('overlay').onchange = event => pick('overlay', event.target.value);
part('opacity').oninput = event => { view.opacity = Number(event.target.value); draw(); };
part('channel').onchange = event => { view.channel = Number(event.target.value); draw(); };
part('ask').onclick = help;
const blinking = setInterval(() => {                // 1.25 changes a second: far below what can harm
  if (!root.isConnected) clearInterval(blinking);
  else if (scene && part('blink').checked && view.layout === 'flicker') flip();
}, 800);

const KEYS = [
  ['← →', 'one frame back, on', { ArrowLeft: () => seek(wanted - 1), ArrowRight: () => seek(wanted + 1) }],
  ['Home End', 'first, last frame', { Home: () => seek(0), End: () => seek(scene.frames - 1) }],
  ['space', 'play, pause', { ' ': play }],
  ['1 2 3 4', 'wipe, side by side, flicker, difference', Object.fromEntries(LAYOUTS.map((name, i) => [i + 1, () => layout(name)]))],
  ['shift 1 … 9', 'that method on the right; side by side: show or hide it', {}],
  ['f', 'flip (and go to flicker)', { f: () => { if (view.layout !== 'flicker') layout('flicker'); else flip(); } }],
  ['l', 'loupe', { l: () => loupe(!view.loupe) }],
  ['o', 'next map', { o: nextOverlay }],
  ['?', 'this list', { '?': help }],
];
part('help').replaceChildren(...KEYS.flatMap(([keys, what]) => [node('dt', { textContent: keys }), node('dd', { textContent: what })]),
  node('dt', { textContent: 'drag' }), node('dd', { textContent: 'move the wipe, or the cursor in a curve' }),
  node('dt', { textContent: 'click' }), node('dd', { textContent: 'pin the loupe; a curve’s title puts its numbers on the pictures' }));

function help() {
  part('help').hidden = !part('help').hidden;
  part('ask').setAttribute('aria-expanded', !part('help').hidden);
}

root.addEventListener('keydown', event => {
  if (!scene || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  if (event.target.tagName === 'BUTTON' && (event.key === ' ' || event.key === 'Enter')) return;
  const digit = event.shiftKey && /^Digit([1-9])$/.exec(event.code);
  const chosen = digit && scene.methods[Number(digit[1]) - 1];
  const act = chosen ? () => (view.layout === 'grid' ? toggle(chosen.key) : pick('right', chosen.key)) : KEYS.map(key => key[2][event.key]).find(Boolean);
  if (!act) return;
  act();
  event.preventDefault();
});

new ResizeObserver(() => fit()).observe(part('stage').parentElement);

root.lens = element.lens = {                        // for tests and the curious
  get state() { return { ...view, absent: [...view.absent], muted: [...view.muted], shown: scene ? onShow() : [], frame, wanted, scene: scene?.id }; },
  get stats() { return { frames: cache.size, bytes, pending: pending.size, failed: [...failed.entries()] }; },
  show: seek,
  readPixels(key) {                                 // the bitmap as it came, RGBA, at its own size
    const bitmap = pictureOf(key), canvas = node('canvas', { width: bitmap.width, height: bitmap.height });
    const context = canvas.getContext('2d');
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  },
  readCell: index => cells[index].context.getImageData(0, 0, scene.width, scene.height),
  readValue: (key, x, y) => overlay() && valueAt(overlay(), key, [x, y]),
};

watch('value', () => setValue(props.value));
watch('goto', () => {
  const to = Array.isArray(props.goto) ? props.goto[0] : props.goto;
  if (scene && exists(to)) seek(to);
});
setValue(props.value);
