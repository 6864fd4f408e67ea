// ------------------------------------------- loupe: one patch of every method, enlarged, and what the numbers there are

const SIDE = 32;                                    // of the patch, in pixels of the picture, where no zoom is chosen
let patches = [];
let side = SIDE, power = 4;

const patchSize = () => [Math.min(side, scene.width), Math.min(side, scene.height)];
const patchOrigin = () => [scene.width, scene.height].map((size, i) => clamp(view.point[i] - (side >> 1), 0, Math.max(0, size - side)));

function makeLoupe() {
  patches = scene.methods.map(({ key }) => {
    const canvas = node('canvas'), context = canvas.getContext('2d', { willReadFrequently: true });
    const [text, error, look] = ['lens-colour', 'lens-error', 'lens-attention'].map(className => node('span', { className }));
    const pixel = node('i', { className: 'lens-pixel' });
    const head = node('span', { className: 'lens-name', title: method(key).label }, dot(key), method(key).label);
    const box = node('div', { className: 'lens-patch' }, head, node('span', { className: 'lens-view' }, canvas, pixel), text, error, look);
    drag(canvas);
    return { key, box, canvas, context, text, error, look, pixel };
  });
  part('patches').replaceChildren(...patches.map(patch => patch.box));
}

// The magnification is a whole number: the chosen one, or the largest with which the patches fit into the free height.
function fitLoupe() {
  const room = part('patches').clientWidth, gap = 6, caption = 62;
  if (!room || !patches.length) return;
  const free = root.classList.contains('wide') ? part('left-column').offsetHeight - part('patches').offsetTop : innerHeight * 0.6;
  const layouts = patches.map((_, i) => {
    const rows = i + 1, columns = Math.ceil(patches.length / rows), wide = Math.floor((room - gap * (columns - 1)) / columns);
    const scale = Math.min(8, Math.floor(wide / SIDE), Math.max(2, Math.floor((free / rows - caption) / SIDE)));
    return { columns, wide, scale, height: rows * (SIDE * scale + caption) };
  }).filter(one => one.wide >= 72);
  const fitting = layouts.filter(one => one.height <= free);
  const { columns, wide, scale } = fitting.length
    ? fitting.reduce((a, b) => (b.scale > a.scale ? b : a)) : layouts.reduce((a, b) => (b.height < a.height ? b : a));
  power = view.enlarge === 'auto' ? scale : view.enlarge;
  side = view.enlarge === 'auto' ? SIDE : clamp(Math.floor(Math.min(wide, SIDE * 6) / power), 5, 96);
  const [width, height] = patchSize();
  part('patches').style.gridTemplateColumns = `repeat(${columns}, ${Math.max(width * power, Math.min(wide, 100))}px)`;
  for (const { canvas, context } of patches) {
    Object.assign(canvas, { width, height });
    context.imageSmoothingEnabled = false;          // setting the size forgets it
    canvas.style.width = `${width * power}px`;
    canvas.style.height = `${height * power}px`;
  }
  marks();
  drawLoupe();
}

// The pixel of one method under the pointer, as drawn: null without a picture.
function pixelUnder({ key, context }) {
  const [left, top] = patchOrigin(), [x, y] = view.point;
  return pictureOf(key) ? [...context.getImageData(x - left, y - top, 1, 1).data.slice(0, 3)] : null;
}

function drawLoupe() {
  if (!scene || !view.loupe) return;
  const [left, top] = patchOrigin(), [x, y] = view.point, map = overlay();
  for (const { key, canvas, context } of patches) {
    const bitmap = pictureOf(key);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (bitmap) context.drawImage(bitmap, -left, -top, scene.width, scene.height);
  }
  const values = Object.fromEntries(patches.map(patch => [patch.key, pixelUnder(patch)])), truth = values.high;
  for (const { key, canvas, text, error, look, pixel } of patches) {
    const value = values[key], seen_ = map?.maps[key] ? valueAt(map, key, view.point) : null;
    text.textContent = value ? value.join(' ') : 'no picture';
    error.textContent = value && truth && key !== 'high' ? `error ${value.map((v, c) => signed(v - truth[c])).join(' ')}` : '';
    look.textContent = exists(seen_) ? `map ${short(seen_)}` : '';
    pixel.style.left = `${(x - left) / canvas.width * 100}%`;
    pixel.style.top = `${(y - top) / canvas.height * 100}%`;
    pixel.style.width = `${100 / canvas.width}%`;
    pixel.style.height = `${100 / canvas.height}%`;
  }
  part('where').textContent = `× ${power} at column ${x}, row ${y}; ${view.pinned ? 'pinned, click to let go' : 'click a picture to pin'}`;
}

const signed = value => (value > 0 ? `+${value}` : value < 0 ? `−${-value}` : '0');

// Dragging one patch moves all of them; a click goes to the pixel under it.
function drag(canvas) {
  let start = null;
  canvas.addEventListener('pointerdown', event => {
    start = { at: [event.clientX, event.clientY], point: view.point, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', event => {
    if (!start) return;
    const by = [event.clientX - start.at[0], event.clientY - start.at[1]].map(pixels => Math.round(pixels / power));
    start.moved ||= by.some(Boolean);
    if (start.moved) pinAt(start.point[0] - by[0], start.point[1] - by[1]);
  });
  canvas.addEventListener('pointerup', event => {
    if (start && !start.moved) {
      const box = canvas.getBoundingClientRect(), [left, top] = patchOrigin();
      pinAt(left + (event.clientX - box.left) / power, top + (event.clientY - box.top) / power);
    }
    start = null;
  });
  canvas.addEventListener('pointercancel', () => { start = null; });
}

function pinAt(x, y) {
  view.pinned = true;
  pointAt(x, y);
}

function pointAt(x, y) {
  view.point = [clamp(Math.floor(x), 0, scene.width - 1), clamp(Math.floor(y), 0, scene.height - 1)];
  marks();
  drawLoupe();
  readMaps();
}

function wipeTo(share) {
  view.wipe = clamp(share, 0, 1);
  draw();
}

// A drag moves the wipe, or what is seen of a zoomed picture; a click pins the loupe and chooses the row of the slice.
// Both work with a mouse, a pen and a finger.
function listen(cell) {
  let start = null;
  const place = event => {
    const box = cell.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * scene.width, (event.clientY - box.top) / box.height * scene.height];
  };
  const share = event => {
    const box = cell.box.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  cell.box.addEventListener('pointerdown', event => {
    if (event.button) return;
    const zoomed = cell.box.classList.contains('zoomed'), near = Math.abs(share(event) - view.wipe) * cell.box.clientWidth < 24;
    start = { x: event.clientX, y: event.clientY, moved: false, pan: view.pan, wipes: view.layout === 'wipe' && (!zoomed || near), pans: zoomed };
    cell.box.setPointerCapture(event.pointerId);
  });
  cell.box.addEventListener('pointermove', event => {
    if (start && !start.moved) start.moved = Math.hypot(event.clientX - start.x, event.clientY - start.y) > 3;
    if (start?.moved && start.wipes) wipeTo(share(event));
    else if (start?.moved && start.pans) {
      panTo(start.pan[0] - (event.clientX - start.x) / view.zoom, start.pan[1] - (event.clientY - start.y) / view.zoom);
      draw();
    } else if (!view.pinned) pointAt(...place(event));
  });
  cell.box.addEventListener('pointerup', event => {
    if (start && !start.moved) {
      view.pinned = !view.pinned || event.pointerType === 'touch' || view.panels.has('slice');
      pointAt(...place(event));
      if (view.panels.has('slice')) rowAt(view.point[1]);
    }
    start = null;
  });
  cell.box.addEventListener('pointercancel', () => { start = null; });
  cell.box.addEventListener('wheel', event => {     // plainly turned, the wheel scrolls the page
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1 : -1, place(event));
  }, { passive: false });
}
