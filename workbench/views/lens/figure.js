// ---------------------------------------- figure: what is shown as one picture, with names, scores and where it comes from

const PAPER = '#ffffff', INK = '#111111', PALE = '#555555';
const FONT = 'system-ui, sans-serif';

// The part of the pictures that is seen, and how many pixels of the figure a pixel of them gets: always a whole number.
function framing() {
  const [left, top] = view.pan, width = Math.min(scene.width - left, Math.ceil(seen[0])), height = Math.min(scene.height - top, Math.ceil(seen[1]));
  return { left, top, width, height, scale: view.zoom === 'fit' ? Math.max(1, Math.floor(480 / width)) : view.zoom };
}

function wordsOf(cell) {
  const told = key => [method(key).label, scoreOf(key)].filter(Boolean).join('  ');
  if (view.layout === 'difference') {
    const [a, b] = cell.keys.map(key => method(key).label);
    return [`|${a} − ${b}| × ${view.gain}${exists(cell.mean) ? `, mean ${short(cell.mean)} of 255 levels` : ''}`];
  }
  return (view.layout === 'flicker' ? [cell.keys[view.flipped ? 1 : 0]] : cell.keys).map(told);
}

function origin() {                                 // what is under the figure, line by line
  const curve = scene.curves.find(c => c.key === view.score), map = view.layout === 'difference' ? null : overlay(), { left, top, width, height } = framing();
  const part_ = width < scene.width || height < scene.height ? `columns ${left} to ${left + width - 1}, rows ${top} to ${top + height - 1}` : '';
  return [
    [scene.title, `frame ${frame + 1} of ${scene.frames}`, part_, curve && view.layout !== 'difference' ? `${curve.label}${curve.unit ? ` in ${curve.unit}` : ''}` : ''],
    [scene.link?.run ? `run ${scene.link.run}${training() ? `, step ${training().at}` : ''}` : `scene ${scene.id}`, map ? `map: ${map.label}, ${short(map.low)} to ${short(map.high)}` : ''],
  ].map(parts_ => parts_.filter(Boolean).join(' · '));
}

function figure() {
  const { left, top, width, height, scale } = framing(), gap = 8, line = 18;
  const columns = Math.max(1, Math.min(cells.length, Math.round(part('stage').clientWidth / (cells[0]?.box.offsetWidth + 6 || 1))));
  const extra = view.loupe && view.pinned ? patches : [], size = patchSize(), zoom = Math.max(2, Math.floor(112 / size[0]));
  const rows = Math.ceil(cells.length / columns), across = columns * width * scale + (columns - 1) * gap;
  const apart = Math.max(size[0] * zoom, 112) + gap, perRow = Math.max(1, Math.floor((Math.max(across, 360) + gap) / apart));
  const bands = Math.ceil(extra.length / perRow), under = rows * (height * scale + line + gap);
  const canvas = node('canvas', { width: Math.max(across, 360) + 2 * gap, height: under + bands * (size[1] * zoom + line + gap) + 2 * line + 2 * gap });
  const context = canvas.getContext('2d'), write = (text, x, y, room, colour = INK, align = 'left', weight = '') => {
    Object.assign(context, { fillStyle: colour, font: `${weight} 13px ${FONT}`, textAlign: align });
    context.fillText(text, x, y, room);
  };
  context.imageSmoothingEnabled = false;
  context.fillStyle = PAPER;
  context.fillRect(0, 0, canvas.width, canvas.height);
  cells.forEach((cell, i) => {
    const x = gap + (i % columns) * (width * scale + gap), y = gap + Math.floor(i / columns) * (height * scale + line + gap);
    context.drawImage(cell.canvas, left, top, width, height, x, y, width * scale, height * scale);
    const [first, second] = wordsOf(cell), room = (width * scale - (second ? gap : 0)) / (second ? 2 : 1);
    write(first, x, y + height * scale + 14, room);
    if (second) write(second, x + width * scale, y + height * scale + 14, room, INK, 'right');
    if (view.layout !== 'wipe') return;
    context.fillStyle = PAPER;
    context.fillRect(x + (wipeEdge() - left) * scale - 1, y, 2, height * scale);
  });
  extra.forEach((patch, i) => {                     // the pinned loupe, a patch a method
    const x = gap + (i % perRow) * apart, y = gap + under + Math.floor(i / perRow) * (size[1] * zoom + line + gap);
    context.drawImage(patch.canvas, x, y, size[0] * zoom, size[1] * zoom);
    write(method(patch.key).label, x, y + size[1] * zoom + 14, apart - gap);
  });
  origin().forEach((text, i) => write(text, gap, canvas.height - gap - line * (1 - i) - 2, canvas.width - 2 * gap, i ? PALE : INK, 'left', i ? '' : '600'));
  return canvas;
}

// ------------------------------------------------------- clip: the methods on show, side by side, written by the server

// The address of the film lies beside that of the pictures; a snapshot of a run also knows the methods of its probe clip.
function filmAddress() {
  const all = onShow().map(key => method(key).frames), home = all.find(frames => String(frames).includes('/snapshots/')) || all[0];
  return typeof home === 'string' ? home.replace(/\/frames\/[^/]+$/, `/films/${onShow().join('+')}.webm`) : null;
}

async function saveFilm() {
  const address = filmAddress(), button = part('film');
  if (!address || button.disabled) return;
  button.disabled = true;
  say('The clip is being written …');
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(await answer.text());
    download(await answer.blob(), `${scene.id}-${onShow().join('-')}-lossless.webm`);
    say('');
  } catch (error) {
    say(`No clip: ${error.message}`);
  }
  button.disabled = false;
}

function download(blob, name) {
  const address = URL.createObjectURL(blob);
  node('a', { href: address, download: name.replace(/[^\w.-]+/g, '_') }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const png = () => new Promise(done => { figure().toBlob(done, 'image/png'); });
const figureName = () => `${[scene.id, `frame${frame + 1}`, view.layout].join('-')}.png`;

async function copyFigure() {
  try {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': png() })]);   // a promise: Safari wants it at once
    say('The figure is on the clipboard.');
  } catch (error) {
    say(`The browser does not let this page copy pictures (${error.name}); save the figure instead.`);
  }
}

async function saveFigure() { download(await png(), figureName()); }
