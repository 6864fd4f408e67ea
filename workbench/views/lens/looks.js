// ----------------------------------- where they look, and what they remember: maps beside each other, and how alike they are

const FIRST_KIND = 'attention';
const TEACHER = 'teacher';
let looks = [];                                     // [{ keys, canvas, text }]: a map, or one map minus another
let looksChart = null;

// The kind of map that the panel shows: the one over the pictures if it is of one channel, else the first of attention.
function looked() {
  const flat = scene.overlays.filter(o => o.channels === 1);
  return flat.find(o => o.kind === view.overlay) || flat.find(o => o.kind.startsWith(FIRST_KIND)) || null;
}

// Every map, then the differences: each student minus the teacher, and the taught student minus the plain one.
function lookPairs(map) {
  const there = scene.methods.map(m => m.key).filter(key => map.maps[key]), others = there.filter(key => key !== TEACHER);
  const taught = ['distilled', 'student'].find(key => there.includes(key));
  return [
    ...there.map(key => [key]),
    ...(there.includes(TEACHER) ? others.map(key => [key, TEACHER]) : []),
    ...(taught && there.includes('plain') ? [[taught, 'plain']] : []),
  ];
}

function makeLooks() {
  const map = looked(), open = view.panels.has('looks') && map;
  looks = [];
  part('maps').replaceChildren();
  part('gaps').replaceChildren();
  part('agreement').replaceChildren();
  looksChart = null;
  if (!open) return;
  const title = keys => (keys.length > 1 ? keys.map(key => method(key).label).join(' − ') : method(keys[0]).label);
  looks = lookPairs(map).map(keys => {
    const canvas = node('canvas', { width: 1, height: 1 }), text = node('span', { className: 'lens-caption' });
    const name = node('span', { className: 'lens-name', title: title(keys) }, ...keys.map(dot), title(keys));
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `Map of this frame: ${title(keys)}`);
    canvas.style.aspectRatio = `${scene.width} / ${scene.height}`;
    const at = event => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width * scene.width, (event.clientY - box.top) / box.height * scene.height];
    };
    canvas.onpointermove = event => { if (!view.pinned) pointAt(...at(event)); };
    canvas.onclick = event => { if (view.pinned) { view.pinned = false; pointAt(...at(event)); } else pinAt(...at(event)); };
    part(keys.length > 1 ? 'gaps' : 'maps').append(node('div', { className: 'lens-look' }, name, canvas, text));
    return { keys, canvas, text };
  });
  const scales = [scaleBar(map.stops, map.low, map.high, map.label)];
  if (map.reach) scales.push(scaleBar(scene.diverging, -map.reach, map.reach, 'Difference: orange looks harder than the other'));
  part('scales').replaceChildren(...scales);
  const series = alike(map);
  if (series.length) {
    looksChart = lineChart(part('agreement'));
    looksChart.set({
      title: 'Overlap with the teacher', note: 'cosine of the two maps · 1: they look at the same places', height: 96,
      xs: Array.from({ length: scene.frames }, (_, i) => i), xName: 'frame', xText: x => String(x + 1), series, onPick: seek,
    });
  }
  drawLooks();
}

const alike = map => scene.methods.filter(m => map.overlap?.[m.key]).map(m => (
  { key: m.key, label: m.label, colour: m.colour, values: map.overlap[m.key] }));

function drawLooks() {
  looksChart?.cursor(frame);
  drawMemory();
  const map = looks.length ? looked() : null;
  if (!map) return;
  for (const { keys, canvas } of looks) {
    const entries = keys.map(key => mapOf(map, key)), context = canvas.getContext('2d');
    if (entries.some(entry => !entry)) { context.clearRect(0, 0, canvas.width, canvas.height); continue; }
    const { width, height } = entries[0];
    if (entries.some(entry => entry.width !== width || entry.height !== height)) continue;   // not to be subtracted
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    if (keys.length === 1) { context.drawImage(coloured(map, keys[0], entries[0]), 0, 0); continue; }
    const picture = new ImageData(width, height), colours = colourOf(scene.diverging), end = map.reach || map.high - map.low;
    for (let i = 0; i < width * height; i++) {
      const [a, b] = entries.map((entry, k) => levelOf(map.maps[keys[k]], entry.grey[i]));
      picture.data.set([...colours[clamp(Math.round(((a - b) / end + 1) * 127.5), 0, 255)], 255], 4 * i);
    }
    context.putImageData(picture, 0, 0);
  }
  readLooks();
}

function readLooks() {
  const map = looks.length ? looked() : null;
  for (const { keys, text } of looks) {
    const values = keys.map(key => valueAt(map, key, view.point));
    const told = keys.length > 1 ? values[0] - values[1] : values[0], cosine = keys.length > 1 && keys[1] === TEACHER && map.overlap?.[keys[0]]?.[frame];
    text.textContent = values.every(exists) ? `${told > 0 && keys.length > 1 ? '+' : ''}${short(told)} here${exists(cosine) ? ` · overlap ${cosine.toFixed(3)}` : ''}` : 'no map';
  }
}

// ------------------------------------------------------- memory: how alike the cells are, a strip with a square a frame

const remembered = () => scene?.overlays.find(o => o.kind === 'memory' && alike(o).length) || null;
let strips = [];                                    // [{ mark, read, values, label }]

function makeMemory() {
  const map = remembered(), told = scene.memory;
  strips = [];
  part('memory').hidden = !map && !told;
  part('verdict').textContent = told ? `${told.verdict} ${told.numbers}` : '';
  part('strips').replaceChildren();
  if (!map) return;
  const rows = alike(map), all = rows.flatMap(row => row.values).filter(exists), low = Math.min(...all), high = Math.max(...all);
  strips = rows.map(row => {
    const canvas = node('canvas', { width: scene.frames, height: 1 }), context = canvas.getContext('2d'), colours = colourOf(scene.sequential);
    row.values.forEach((value, i) => {
      if (!exists(value)) return;
      context.fillStyle = `rgb(${colours[Math.round((high > low ? (value - low) / (high - low) : 1) * 255)].join(' ')})`;
      context.fillRect(i, 0, 1, 1);
    });
    const mark = node('i', { className: 'lens-now' }), read = node('output'), least = row.values.indexOf(Math.min(...row.values.filter(exists)));
    const strip = node('div', { className: 'lens-strip' }, canvas, ownLine(row.values), mark);
    strip.setAttribute('role', 'img');
    strip.setAttribute('aria-label', `How alike the cells of ${row.label} and of the teacher are, frame by frame; least at frame ${least + 1}`);
    const at = event => {
      const box = strip.getBoundingClientRect();
      return clamp(Math.floor((event.clientX - box.left) / box.width * scene.frames), 0, scene.frames - 1);
    };
    strip.onclick = event => seek(at(event));
    strip.onpointermove = event => { tellStrip(one, at(event)); };
    strip.onpointerleave = () => tellStrip(one, frame);
    const dip = node('button', { type: 'button', textContent: `dip: frame ${least + 1}`, title: 'Go to the frame where the cells are least alike' });
    dip.onclick = () => seek(least);
    part('strips').append(node('span', { className: 'lens-name' }, dot(row.key), row.label), strip, node('span', { className: 'lens-strip-words' }, read, dip));
    const one = { mark, read, values: row.values };
    return one;
  });
  part('strips').append(scaleBar(scene.sequential, low, high, 'colour: cosine of the cells with the teacher’s; line: on its own scale'));
  drawMemory();
}

// The row's own ups and downs: beside a method that differs more, the shared colours do not show them.
function ownLine(values) {
  const there = values.filter(exists), low = Math.min(...there), high = Math.max(...there), drawing = shape('svg', { viewBox: `0 0 ${values.length} 1`, preserveAspectRatio: 'none' });
  const height = value => (high > low ? 0.85 - 0.7 * (value - low) / (high - low) : 0.5).toFixed(3);
  const points = values.map((value, i) => (exists(value) ? `${i + 0.5} ${height(value)}` : '')).filter(Boolean);
  drawing.append(shape('path', { d: `M${points.join('L')}` }));
  return drawing;
}

const tellStrip = ({ read, values }, index) => { read.textContent = `frame ${index + 1}: ${exists(values[index]) ? values[index].toFixed(3) : '–'}`; };

function drawMemory() {
  for (const strip of strips) {
    strip.mark.style.left = `${frame / scene.frames * 100}%`;
    strip.mark.style.width = `${100 / scene.frames}%`;
    tellStrip(strip, frame);
  }
}
