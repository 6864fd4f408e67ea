// ----------------------------------------------------------- attention maps, memory cells, and differences of attention maps

const TEACHER = 'teacher';
let mapViews = [];                                  // [{ map, keys, canvas, text }]: a map, or one map minus another
let similarityCharts = [];

const flatMaps = () => scene.overlays.filter(o => o.channels === 1);
const attention = () => flatMaps().find(o => o.kind === view.attention) || flatMaps().find(o => o.kind.startsWith('attention')) || null;
const memoryCells = () => scene.overlays.find(o => o.channels > 1) || null;
const shownMaps = () => (view.maps ? [attention(), memoryCells()] : [view.panels.has('differences') ? attention() : null]).filter(Boolean);

// Each student minus the teacher, and the distilled student minus the plain one.
function mapPairs(map) {
  const present = scene.methods.map(m => m.key).filter(key => map.maps[key]), others = present.filter(key => key !== TEACHER);
  const distilled = ['distilled', 'student'].find(key => present.includes(key));
  return [
    ...(present.includes(TEACHER) ? others.map(key => [key, TEACHER]) : []),
    ...(distilled && present.includes('plain') ? [[distilled, 'plain']] : []),
  ];
}

function makeMaps() {
  const flat = attention(), cells_ = memoryCells(), open = view.panels.has('differences') && flat;
  mapViews = [];
  for (const [name, map] of [['attention', flat], ['cell', cells_]]) {
    part(`${name}-maps`).replaceChildren();
    part(`${name}-scale`).replaceChildren();
    if (!map || !view.maps) continue;
    scene.methods.filter(m => map.maps[m.key]).forEach(m => addMap(part(`${name}-maps`), map, [m.key]));
    part(`${name}-scale`).append(scaleBar(map.stops, ...rangeOf(map)));
    part(`${name}-scale`).parentElement.title = map.explain;
  }
  part('difference-maps').replaceChildren();
  part('difference-scale').replaceChildren();
  if (open) {
    mapPairs(flat).forEach(keys => addMap(part('difference-maps'), flat, keys));
    if (flat.reach) part('difference-scale').append(scaleBar(scene.diverging, -flat.reach, flat.reach));
  }
  drawMaps();
}

function addMap(place, map, keys) {
  const canvas = node('canvas', { width: 1, height: 1 }), text = node('span', { className: 'lens-caption' });
  const title = keys.map(key => method(key).label).join(' − ');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${map.label}: ${title}`);
  canvas.style.aspectRatio = `${scene.width} / ${scene.height}`;
  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * scene.width, (event.clientY - box.top) / box.height * scene.height];
  };
  canvas.onpointermove = event => { if (!view.pinned) pointAt(...at(event)); };
  canvas.onclick = event => { if (view.pinned) { view.pinned = false; pointAt(...at(event)); } else pinAt(...at(event)); };
  place.append(node('div', { className: 'lens-map' }, node('span', { className: 'lens-name', title }, ...keys.map(dot), title), canvas, text));
  mapViews.push({ map, keys, canvas, text });
}

function drawMaps() {
  similarityCharts.forEach(chart => chart.cursor(frame));
  for (const { map, keys, canvas } of mapViews) {
    const entries = keys.map(key => mapOf(map, key)), context = canvas.getContext('2d');
    if (entries.some(entry => !entry)) { context.clearRect(0, 0, canvas.width, canvas.height); continue; }
    const { width } = entries[0], height = Math.floor(entries[0].height / map.maps[keys[0]].channels);
    if (entries.some(entry => entry.width !== width || entry.height !== entries[0].height)) continue;   // sizes differ: no difference
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    if (keys.length === 1) { context.drawImage(coloured(map, keys[0], entries[0]), 0, 0); continue; }
    const image = new ImageData(width, height), colours = colourOf(scene.diverging), end = map.reach || map.high - map.low;
    for (let i = 0; i < width * height; i++) {
      const [a, b] = entries.map((entry, k) => levelOf(map.maps[keys[k]], entry.grey[i]));
      image.data.set([...colours[clamp(Math.round(((a - b) / end + 1) * 127.5), 0, 255)], 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }
  readMaps();
}

function readMaps() {
  for (const { map, keys, text } of mapViews) {
    const values = keys.map(key => valueAt(map, key, view.point)), pair = keys.length > 1;
    if (!values.every(exists)) { text.textContent = 'no map'; continue; }
    const value = pair ? values[0] - values[1] : values[0], cosine = (!pair || keys[1] === TEACHER) && map.overlap?.[keys[0]]?.[frame];
    text.textContent = `${value > 0 && pair ? '+' : ''}${short(value)}${exists(cosine) ? ` · ${map.channels > 1 ? 'cosine' : 'overlap'} ${cosine.toFixed(3)}` : ''}`;
  }
}

// ----------------------------- similarity to the teacher, frame by frame: overlap of the attention maps, cosine of the cells

function makeSimilarity() {
  part('similarity').replaceChildren();
  part('memory').textContent = scene.memory ? `${scene.memory.verdict} ${scene.memory.numbers}` : '';
  const charted = [[attention(), 'Attention overlap'], [memoryCells(), 'Memory cell cosine']].filter(([map]) => map && Object.keys(map.overlap).length);
  similarityCharts = charted.map(([map, title]) => {
    const chart = lineChart(part('similarity'));
    chart.set({
      title, note: 'with the teacher · 1: proportional', height: 96, brief: true, onPick: seek,
      xs: Array.from({ length: scene.frames }, (_, i) => i), xName: 'frame', xText: x => String(x + 1),
      series: scene.methods.filter(m => map.overlap[m.key]).map(m => ({ key: m.key, label: m.label, colour: m.colour, values: map.overlap[m.key] })),
    });
    chart.cursor(frame);
    return chart;
  });
}
