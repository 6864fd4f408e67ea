// ------------------------------------------------------------------------- drawing: canvases at the size of the pictures

let cells = [];                                     // [{ keys, box, sheet, canvas, context, labels, divider, spot, line }]
let seen = [1, 1];                                  // how much of the picture a cell shows, in pixels of the picture

function makeCells() {
  const groups = view.layout === 'grid' ? onShow().map(key => [key]) : [[view.left, view.right]];
  cells = groups.map(keys => {
    const canvas = node('canvas', { width: scene.width, height: scene.height });
    const context = canvas.getContext('2d', { willReadFrequently: view.layout === 'difference' });
    context.imageSmoothingEnabled = false;          // `low` is enlarged pixel by pixel
    const labels = keys.map((key, side) => node('span', { className: `lens-label ${side ? 'right' : 'left'}` }));
    const spot = node('i', { className: 'lens-spot' }), line = node('i', { className: 'lens-line' });
    const sheet = node('div', { className: 'lens-sheet' }, canvas, spot, line);
    const box = node('div', { className: 'lens-cell' }, sheet, ...labels);
    const cell = { keys, box, sheet, canvas, context, labels, spot, line, divider: null };
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

// The number of columns that shows the frames largest, and their size on the page. On a wide page the frames get the width
// that their height allows, and maps and loupe the rest.
function fit() {
  if (!scene || !cells.length) return;
  const stage = part('stage'), gap = 6, whole_ = part('main').clientWidth, side = view.loupe || shownMaps().length > 0, wide = side && whole_ >= 980;
  const room = wide ? Math.floor(whole_ * 0.54) : whole_, tall = clamp(innerHeight * (wide ? 0.68 : 0.8), 240, 1000);
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= cells.length; columns++) {
    const rows = Math.ceil(cells.length / columns);
    const scale = Math.min((room - gap * (columns - 1)) / columns / scene.width, (tall - gap * (rows - 1)) / rows / scene.height);
    if (scale > best.scale) best = { scale, columns };
  }
  const rows = Math.ceil(cells.length / best.columns), fits = view.zoom === 'fit', scale = fits ? best.scale : view.zoom;
  const whole = [Math.max(1, Math.floor(scene.width * scale)), Math.max(1, Math.floor(scene.height * scale))];
  const window_ = fits ? whole : [
    Math.min(whole[0], Math.floor((room - gap * (best.columns - 1)) / best.columns)),
    Math.min(whole[1], Math.floor((tall - gap * (rows - 1)) / rows))];
  root.classList.toggle('wide', wide);
  part('main').style.gridTemplateColumns = wide ? `${Math.floor(scene.width * best.scale) * best.columns + gap * (best.columns - 1)}px minmax(0, 1fr)` : '';
  seen = fits ? [scene.width, scene.height] : window_.map(size => size / scale);
  stage.style.gridTemplateColumns = `repeat(${best.columns}, ${window_[0]}px)`;
  for (const { box, sheet, canvas } of cells) {
    canvas.style.imageRendering = scale >= 1 ? 'pixelated' : 'auto';
    sheet.style.width = `${whole[0]}px`;
    box.style.height = fits ? '' : `${window_[1]}px`;
    box.classList.toggle('zoomed', whole[0] > window_[0] || whole[1] > window_[1]);
  }
  root.style.setProperty('--label-room', window_[0] < 200 ? '10px' : '12px');
  panTo(...view.pan);
  fitLoupe();
}

// Every cell shows the same part of its picture; whole pixels, so that a pixel is the same square everywhere.
function panTo(x, y) {
  view.pan = [x, y].map((at, i) => clamp(Math.round(at), 0, Math.max(0, Math.ceil([scene.width, scene.height][i] - seen[i]))));
  const scale = view.zoom === 'fit' ? 0 : view.zoom;
  for (const { sheet } of cells) sheet.style.transform = scale ? `translate(${-view.pan[0] * scale}px, ${-view.pan[1] * scale}px)` : '';
}

// Zooms about a point of the picture, which stays where it is in the cells.
function zoomTo(zoom, [x, y] = view.point) {
  const share = [(x - view.pan[0]) / seen[0], (y - view.pan[1]) / seen[1]].map(s => (s >= 0 && s <= 1 ? s : 0.5));
  view.zoom = zoom;
  if (zoom === 'fit') view.pan = [0, 0];
  controls();
  fit();
  if (zoom !== 'fit') panTo(x - share[0] * seen[0], y - share[1] * seen[1]);
  draw();
}

function zoomBy(steps, point) {                     // fit, 1, 2, 3, 4, 6, 8
  zoomTo(ZOOMS[clamp(ZOOMS.indexOf(view.zoom) + steps, 0, ZOOMS.length - 1)], point);
}

function panBy(dx, dy) {
  panTo(view.pan[0] + dx, view.pan[1] + dy);
  draw();
}

// Where the wipe stands, in columns of the picture: a share of what is seen of it.
const wipeEdge = () => clamp(Math.round(view.pan[0] + view.wipe * seen[0]), 0, scene.width);

function draw() {
  for (const cell of cells) {
    if (view.layout === 'difference') drawDifference(cell);
    else if (view.layout === 'flicker') drawPart(cell, cell.keys[view.flipped ? 1 : 0], 0, scene.width);
    else if (view.layout === 'wipe') {
      const edge = wipeEdge();
      drawPart(cell, cell.keys[0], 0, edge);
      drawPart(cell, cell.keys[1], edge, scene.width);
    } else drawPart(cell, cell.keys[0], 0, scene.width);
  }
  marks();
  drawLoupe();
  drawMaps();
  markSlices();
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
  part('count').textContent = `frame ${frame + 1} / ${scene.frames} · ${startOf(frame).toFixed(2)} s`;
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
    const [left, top] = patchOrigin(), patch = patchSize(), { style } = cell.spot;
    cell.spot.hidden = !view.loupe;
    cell.spot.classList.toggle('pinned', view.pinned);
    style.left = `${left / scene.width * 100}%`;
    style.top = `${top / scene.height * 100}%`;
    style.width = `${patch[0] / scene.width * 100}%`;
    style.height = `${patch[1] / scene.height * 100}%`;
    cell.line.hidden = !view.panels.has('slice');
    cell.line.style.top = `${view.row / scene.height * 100}%`;
    cell.line.style.height = `${100 / scene.height}%`;
  }
  readValues();
  remember();
}
